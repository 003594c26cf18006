//! Examination of the server and of the database, for operators.

use composable_rust_core::store::{Finding, StoreError};
use sqlx::postgres::PgRow;

use crate::PostgresEventStore;
use crate::error::store_error;
use crate::row::{text, value};

/// The age of a snapshot from which on dead rows slow the queues down.
const OLD_SNAPSHOT_SECONDS: f64 = 300.0;
/// The share of the server's connections from which on few are left.
const BUSY_CONNECTIONS: f64 = 0.8;
/// The number of dead rows of a queue's table from which on its scans are slow.
const MANY_DEAD_ROWS: i64 = 100_000;

const SERVER: &str = "select current_setting('server_version'), \
         coalesce((select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()), false), \
         inet_server_addr() is null, current_user::text, \
         (select rolsuper from pg_roles where rolname = current_user), \
         current_setting('fsync'), current_setting('synchronous_commit'), \
         current_setting('autovacuum'), current_setting('full_page_writes'), \
         (select count(*)::float8 from pg_stat_activity), \
         current_setting('max_connections')::float8, \
         coalesce((select l.home <> log_home() from log l), false), \
         pg_size_pretty(pg_database_size(current_database())), event_store_schema_version()";

/// The oldest snapshot of a session, of a prepared transaction or of a replication slot.
const OLDEST_SNAPSHOT: &str = "(select 'session ' || a.pid || ' of ' || coalesce(a.usename, '?') \
             || ' (' || coalesce(nullif(a.application_name, ''), 'no application name') || ', ' \
             || coalesce(a.state, '?') || ')', \
         extract(epoch from clock_timestamp() - a.xact_start)::float8, \
         'end the transaction, or run: select pg_terminate_backend(' || a.pid || ')' \
     from pg_stat_activity a \
     where a.backend_xmin is not null and a.xact_start is not null and a.pid <> pg_backend_pid() \
     order by age(a.backend_xmin) desc, a.xact_start limit 1) \
     union all (select 'prepared transaction ' || p.gid, \
         extract(epoch from clock_timestamp() - p.prepared)::float8, \
         'commit it or roll it back: rollback prepared ''' || p.gid || '''' \
     from pg_prepared_xacts p order by p.prepared limit 1) \
     union all (select 'replication slot ' || s.slot_name, 1e9::float8, \
         'let its consumer continue, or run: select pg_drop_replication_slot(''' || s.slot_name || ''')' \
     from pg_replication_slots s where not s.active limit 1)";

const TABLES: &str = "select s.relname::text, pg_size_pretty(pg_total_relation_size(s.relid)), \
         s.n_live_tup, s.n_dead_tup, s.last_autovacuum is null and s.last_vacuum is null, \
         coalesce((select o.option_value = 'false' from pg_options_to_table(c.reloptions) o \
             where o.option_name = 'autovacuum_enabled'), false) \
     from pg_stat_user_tables s join pg_class c on c.oid = s.relid \
     where s.schemaname = current_schema() and s.relname = any ($1) order by s.relname";

const TABLE_NAMES: [&str; 7] =
    ["checkpoints", "dead_letters", "events", "inbox", "outbox", "snapshots", "timers"];

pub(crate) async fn examine(store: &PostgresEventStore) -> Result<Vec<Finding>, StoreError> {
    let mut found = Vec::new();
    let server = sqlx::query(SERVER);
    let row = store.readers.run(async |reader| server.fetch_one(reader).await).await?;
    server_findings(&row, &mut found).map_err(store_error)?;
    let snapshots = sqlx::query(OLDEST_SNAPSHOT);
    let rows = store.readers.run(async |reader| snapshots.fetch_all(reader).await).await?;
    for row in &rows {
        found.extend(snapshot_finding(row).map_err(store_error)?);
    }
    let tables = sqlx::query(TABLES).bind(&TABLE_NAMES[..]);
    let rows = store.readers.run(async |reader| tables.fetch_all(reader).await).await?;
    for row in &rows {
        found.push(table_finding(row).map_err(store_error)?);
    }
    Ok(found)
}

fn server_findings(row: &PgRow, found: &mut Vec<Finding>) -> Result<(), sqlx::Error> {
    found.push(Finding::fact("server", format!("PostgreSQL {}", text(row, 0)?)));
    found.push(Finding::fact("database-size", text(row, 12)?));
    found.push(Finding::fact("schema-version", value::<i32>(row, 13)?.to_string()));
    let (has_tls, is_local) = (value::<bool>(row, 1)?, value::<bool>(row, 2)?);
    found.push(match (has_tls, is_local) {
        (true, _) => Finding::fact("tls", "the connection is encrypted"),
        (false, true) => Finding::fact("tls", "a local socket without TLS"),
        (false, false) => Finding::warning(
            "tls",
            "the connection is not encrypted",
            "add `sslmode=verify-full` to the URL unless the network is trusted",
        ),
    });
    let (role, is_superuser) = (text(row, 3)?, value::<Option<bool>>(row, 4)?);
    found.push(if is_superuser == Some(true) {
        Finding::warning(
            "role",
            format!("`{role}` is a superuser"),
            "connect as a role that only owns the tables of the store",
        )
    } else {
        Finding::fact("role", role)
    });
    for (column, name, loss) in [
        (5, "fsync", "a crash of the server corrupts the database"),
        (6, "synchronous_commit", "a crash of the server loses acknowledged events"),
        (8, "full_page_writes", "a crash of the server can corrupt pages"),
    ] {
        if text(row, column)? == "off" {
            let remedy = format!("set `{name} = on`");
            found.push(Finding::fault("durability", format!("`{name}` is off: {loss}"), remedy));
        }
    }
    if text(row, 7)? == "off" {
        found.push(Finding::fault(
            "autovacuum",
            "autovacuum is off: the queues grow and slow down",
            "set `autovacuum = on`",
        ));
    }
    let (used, most) = (value::<f64>(row, 9)?, value::<f64>(row, 10)?);
    let connections = format!("{used:.0} of {most:.0}");
    found.push(if used >= most * BUSY_CONNECTIONS {
        Finding::warning(
            "connections",
            connections,
            "raise `max_connections` of the server, or lower that of the processes",
        )
    } else {
        Finding::fact("connections", connections)
    });
    if value::<bool>(row, 11)? {
        found.push(Finding::fault(
            "copied-database",
            "the log belongs to another database: this one is a copy, or was moved",
            "decide which of the two it is: `adopt_log` of the store's builder",
        ));
    }
    Ok(())
}

fn snapshot_finding(row: &PgRow) -> Result<Option<Finding>, sqlx::Error> {
    let (who, age) = (text(row, 0)?, value::<f64>(row, 1)?);
    let is_slot = age >= 1e9;
    let found = if is_slot {
        format!("the inactive {who} keeps dead rows and the write-ahead log")
    } else {
        format!("{who} has held its snapshot for {age:.0} s")
    };
    Ok(Some(if age >= OLD_SNAPSHOT_SECONDS {
        Finding::warning("oldest-snapshot", found, text(row, 2)?)
    } else {
        Finding::fact("oldest-snapshot", found)
    }))
}

fn table_finding(row: &PgRow) -> Result<Finding, sqlx::Error> {
    let (table, size) = (text(row, 0)?, text(row, 1)?);
    let (live, dead) = (value::<i64>(row, 2)?, value::<i64>(row, 3)?);
    let found = format!("`{table}`: {size}, about {live} rows and {dead} dead ones");
    let is_never_vacuumed = value::<bool>(row, 4)?;
    Ok(if value::<bool>(row, 5)? {
        let remedy = format!("run: alter table {table} reset (autovacuum_enabled)");
        Finding::fault("table", format!("{found}; autovacuum is off for it"), remedy)
    } else if table != "events" && dead > MANY_DEAD_ROWS && dead > live {
        let never = if is_never_vacuumed { "; it was never vacuumed" } else { "" };
        let remedy = "find what holds the oldest snapshot, then run: vacuum";
        Finding::warning("table", format!("{found}{never}"), remedy)
    } else {
        Finding::fact("table", found)
    })
}
