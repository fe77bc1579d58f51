"""Vendor, as data. Hears which cases are queued for partners or escalated; says where they lie and what comes back."""

from services.runtime import Service
from services.vendor import PATHS, api, react, views

SERVICE = Service(
    name="vendor",
    sentence="hands cases to partners by contract and share plan, and takes them back",
    paths=PATHS,
    doors=api.doors,
    views=views.PROJECTED,
    inline=views.INLINE,
    reactors=(react.REACTOR,),
)
