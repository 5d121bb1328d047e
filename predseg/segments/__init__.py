"""Who belongs: named rules, their memberships over time, and why."""
