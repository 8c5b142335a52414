"""What every wing stands on: errors, ids, credits, spans, clock, actor, database."""
