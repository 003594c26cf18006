-- The event store of Composable Rust, schema version 1.
--
-- Every durable row contains its log partition, and so does every primary key. Ids of 16 bytes are
-- blobs, times are microseconds since 1970-01-01T00:00:00Z.

create table log (
    only_row integer primary key check (only_row = 1),
    log_id blob not null check (length(log_id) = 16),
    hash text not null check (hash = 'xxh3-64'),
    partition_count integer not null check (partition_count > 0),
    -- Authenticates what other services return.
    secret blob not null check (length(secret) = 32),
    -- The file that the log belongs to, by its number on the system; any other is a copy. Null
    -- where files have no numbers.
    home text,
    -- The number of overrides, by which processes notice them.
    overrides integer not null default 0,
    created_at integer not null,
    -- The oldest code that may use the file, as the highest schema version that it knows. A
    -- migration that older code cannot use raises it; one that only adds does not.
    oldest_code integer not null default 1
) strict;

-- `outbox_sequence` is the last one drawn; rows of the outbox are deleted, so it cannot be read
-- there.
create table partitions (
    partition integer primary key,
    outbox_sequence integer not null default 0
) strict;

-- Rows are stored in commit order, in which the log is read. No further index: each costs about a
-- third of the append rate.
create table events (
    partition integer not null,
    log_offset integer not null check (log_offset > 0),
    stream_id text not null,
    version integer not null check (version > 0),
    event_id blob not null,
    event_type text not null,
    schema_version integer not null,
    codec text not null,
    created_at integer not null,
    metadata text not null,
    event_data blob not null,
    primary key (partition, stream_id, version),
    unique (partition, log_offset)
) strict;

-- An operator's replacement for the content of one event; the original stays in events.
create table event_overrides (
    partition integer not null,
    stream_id text not null,
    version integer not null,
    event_type text not null,
    schema_version integer not null,
    codec text not null,
    created_at integer not null,
    event_data blob not null,
    primary key (partition, stream_id, version)
) strict;

create table snapshots (
    partition integer not null,
    stream_id text not null,
    fingerprint integer not null,
    version integer not null,
    codec text not null,
    created_at integer not null,
    state_data blob not null,
    primary key (partition, stream_id, fingerprint)
) strict;

-- The messages that a stream has handled.
create table inbox (
    partition integer not null,
    stream_id text not null,
    message_id blob not null,
    digest blob not null,
    version integer not null,
    log_offset integer,
    created_at integer not null,
    outcome blob not null,
    primary key (partition, stream_id, message_id)
) strict, without rowid;

-- Effects to execute. `sequence` is drawn under the write lock, so it rises in commit order within
-- a partition, and within an append in the order of its effects.
create table outbox (
    partition integer not null,
    kind text not null check (kind in ('bulk', 'call', 'dispatch', 'policy', 'projection', 'send')),
    target text not null,
    sequence integer not null,
    id blob not null,
    stream_id text not null,
    recipient text not null,
    message_type text not null,
    schema_version integer not null,
    codec text not null,
    created_at integer not null,
    attempts integer not null default 0,
    next_attempt_at integer,
    last_error text,
    metadata text not null,
    message_data blob not null,
    primary key (partition, kind, target, sequence)
) strict;

create table timers (
    partition integer not null,
    category text not null,
    stream_id text not null,
    timer_id text not null,
    armed_by blob not null,
    armed_index integer not null,
    due integer not null,
    armed_at integer not null,
    message_type text not null,
    schema_version integer not null,
    codec text not null,
    attempts integer not null default 0,
    last_error text,
    metadata text not null,
    message_data blob not null,
    primary key (partition, stream_id, timer_id)
) strict;
create index timers_due on timers (partition, category, due, stream_id, timer_id);

-- The holders of workers' partitions. A write of a worker requires its epoch.
create table leases (
    partition integer not null,
    worker text not null,
    holder blob,
    epoch integer not null check (epoch > 0),
    expires_at integer not null,
    ttl integer not null,
    primary key (partition, worker)
) strict, without rowid;

-- The processes that can do a worker's work and share its partitions.
create table members (
    worker text not null,
    holder blob not null,
    expires_at integer not null,
    ttl integer not null,
    primary key (worker, holder)
) strict, without rowid;

-- Who the holders of leases are, for operators.
create table processes (
    holder blob primary key,
    since integer not null,
    pid integer not null,
    program text not null,
    version text not null,
    host text not null
) strict, without rowid;

-- The pauses of the log ('log'), during which no process claims leases, and of parts of its work.
create table pauses (
    name text primary key,
    since integer not null,
    paused_by text
) strict, without rowid;

-- The progress of a follower of the log, and the event at that position.
create table checkpoints (
    partition integer not null,
    name text not null,
    log_offset integer not null,
    event_id blob,
    epoch integer not null default 0,
    status text not null default 'running',
    status_detail text,
    updated_at integer not null,
    primary key (partition, name)
) strict, without rowid;

-- Messages that could not be handled, and those parked behind them, in order. For a timer, `target`
-- is the category, `recipient` the timer's id, and `sequence` was drawn when it was parked.
create table dead_letters (
    partition integer not null,
    kind text not null check (kind in ('bulk', 'call', 'dispatch', 'policy', 'projection', 'send', 'timer')),
    target text not null,
    sequence integer not null,
    id blob not null,
    stream_id text not null,
    recipient text not null,
    armed_by blob,
    armed_index integer,
    message_type text not null,
    schema_version integer not null,
    codec text not null,
    created_at integer not null,
    attempts integer not null,
    error text,
    parked_at integer not null,
    decision text check (decision in ('redrive', 'discard')),
    metadata text not null,
    message_data blob not null,
    primary key (partition, kind, target, sequence),
    unique (partition, id),
    check ((kind = 'timer') = (armed_by is not null and armed_index is not null))
) strict;
create index dead_letters_pair on dead_letters
    (partition, kind, target, stream_id, recipient, sequence);
create index dead_letters_decided on dead_letters (partition, kind, target, sequence)
    where decision is not null;
