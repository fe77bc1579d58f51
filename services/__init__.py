"""The map: five services that meet only in the log.

| service    | one sentence                                                                                     |
|------------|--------------------------------------------------------------------------------------------------|
| intake     | takes in what customers bring, keeps each case's life cycle, and holds what is personal about them |
| router     | knows the units and agents, decides where a case goes, and offers it to one agent at a time      |
| escalation | promises times, runs the clocks, and gives a breached case to a unit that owns it                |
| vendor     | hands cases to partners by contract and share plan, and takes them back                          |
| metrics    | folds every case into facts, walks and figures                                                   |

Each has the same rooms: `service.py` (read first), `decide.py`, `react.py`, `views.py`, `api.py`;
`names.py` is the list of them.
"""
