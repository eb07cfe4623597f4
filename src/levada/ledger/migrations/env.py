"""How alembic reaches the ledger: over the one connection that `levada.ledger.roles` hands it."""

from __future__ import annotations

from alembic import context

if hasattr(context, "config"):  # alembic runs this file; whoever merely imports it runs nothing
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, version_table_schema="ledger")
    with context.begin_transaction():
        context.run_migrations()
