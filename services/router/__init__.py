"""The router: which unit's queue a case goes to, and which agent is asked to take it."""
