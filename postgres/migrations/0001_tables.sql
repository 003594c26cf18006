-- The tables of the event store.
--
-- The migrations can be run by hand, in order of their numbers and any number of times:
--   cat migrations/*.sql | psql "$DATABASE_URL" -v ON_ERROR_STOP=1 --single-transaction
--   psql "$DATABASE_URL" -c 'select create_log(8)'    -- 8 log partitions, for good
--
-- Every durable row carries its log partition, and every primary key contains it. Id columns are
-- compared byte by byte: a locale's collation changes with the C library and corrupts keys.

create table if not exists log (
    only_row boolean primary key default true check (only_row),
    log_id uuid not null,
    hash text not null check (hash = 'xxh3-64'),
    partition_count smallint not null check (partition_count > 0),
    created_at timestamptz not null default now()
);

-- One row per log partition. It is locked by whatever writes to the partition and never updated:
-- a dead row version per commit could not be vacuumed while anybody holds an old snapshot.
create table if not exists partitions (
    partition smallint primary key
);

-- Fixed-width columns come first: they are found without walking over the others. No check
-- constraints: they are parsed anew by every append.
create table if not exists events (
    version bigint not null,
    log_offset bigint not null,
    created_at timestamptz not null,
    event_id uuid not null,
    schema_version integer not null,
    partition smallint not null,
    stream_id text collate "C" not null,
    event_type text collate "C" not null,
    codec text collate "C" not null,
    event_data bytea not null,
    metadata jsonb,
    constraint events_pkey primary key (partition, stream_id, version),
    constraint events_log_offset_key unique (partition, log_offset)
);
-- No further B-tree on events: each costs about a third of the append rate.
create index if not exists events_created_at on events using brin (created_at);

-- An operator's replacement for the content of one event; the original stays in events.
create table if not exists event_overrides (
    partition smallint not null,
    stream_id text collate "C" not null,
    version bigint not null,
    event_type text collate "C" not null,
    schema_version integer not null,
    codec text collate "C" not null,
    event_data bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint event_overrides_pkey primary key (partition, stream_id, version)
);

create table if not exists snapshots (
    partition smallint not null,
    stream_id text collate "C" not null,
    fingerprint bigint not null,
    version bigint not null,
    codec text collate "C" not null,
    state_data bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint snapshots_pkey primary key (partition, stream_id, fingerprint)
);

-- What is known of the messages that a stream has handled.
create table if not exists inbox (
    version bigint not null,
    log_offset bigint,
    created_at timestamptz not null,
    message_id uuid not null,
    digest uuid not null,
    partition smallint not null,
    stream_id text collate "C" not null,
    answer bytea not null,
    constraint inbox_pkey primary key (partition, stream_id, message_id)
);
create index if not exists inbox_created_at on inbox using brin (created_at);

-- Effects to be executed. `sequence` is drawn under the partition's lock, so it rises in commit
-- order within a partition; `index` is the place within the append.
create sequence if not exists outbox_sequence;
create table if not exists outbox (
    sequence bigint not null,
    index integer not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    created_at timestamptz not null,
    id uuid not null,
    schema_version integer not null,
    partition smallint not null,
    kind text collate "C" not null,
    target text collate "C" not null,
    stream_id text collate "C" not null,
    recipient text collate "C" not null,
    message_type text collate "C" not null,
    codec text collate "C" not null,
    message_data bytea not null,
    metadata jsonb,
    last_error text,
    constraint outbox_pkey primary key (partition, kind, target, sequence, index)
);

create table if not exists timers (
    due timestamptz not null,
    armed_at timestamptz not null,
    armed_by uuid not null,
    armed_index bigint not null,
    attempts integer not null default 0,
    schema_version integer not null,
    partition smallint not null,
    category text collate "C" not null,
    stream_id text collate "C" not null,
    timer_id text collate "C" not null,
    message_type text collate "C" not null,
    codec text collate "C" not null,
    message_data bytea not null,
    metadata jsonb,
    last_error text,
    constraint timers_pkey primary key (partition, stream_id, timer_id)
);
create index if not exists timers_due on timers (partition, category, due, stream_id, timer_id);

-- Who works on a partition. A write of a worker requires its epoch.
create table if not exists leases (
    partition smallint not null,
    worker text collate "C" not null,
    holder uuid,
    epoch bigint not null default 0,
    expires_at timestamptz,
    constraint leases_pkey primary key (partition, worker)
);

-- How far a follower of the log has come, and the event at that place.
create table if not exists checkpoints (
    partition smallint not null,
    name text collate "C" not null,
    log_offset bigint not null,
    event_id uuid,
    epoch bigint not null default 0,
    status text collate "C" not null default 'running',
    status_detail text,
    updated_at timestamptz not null default clock_timestamp(),
    constraint checkpoints_pkey primary key (partition, name)
);

-- Messages that could not be handled, and what is parked behind them, in order.
create table if not exists dead_letters (
    sequence bigint not null,
    index integer not null,
    parked_at timestamptz not null default clock_timestamp(),
    id uuid not null,
    attempts integer not null,
    schema_version integer not null,
    partition smallint not null,
    source text collate "C" not null,
    target text collate "C" not null,
    stream_id text collate "C" not null,
    recipient text collate "C" not null,
    message_type text collate "C" not null,
    codec text collate "C" not null,
    message_data bytea not null,
    metadata jsonb,
    error text,
    constraint dead_letters_pkey primary key (partition, source, target, sequence, index)
);

-- The number of the last migration that was run; each replaces it.
create or replace function event_store_schema_version() returns integer
language sql immutable as 'select 1';

-- Creates the log once: its id, and as many partitions as given. Later calls change nothing.
create or replace function create_log(partition_count integer) returns void
language plpgsql as $$
begin
    insert into log (log_id, hash, partition_count)
    values (gen_random_uuid(), 'xxh3-64', create_log.partition_count)
    on conflict do nothing;
    if found then
        insert into partitions (partition)
        select i from generate_series(0, create_log.partition_count - 1) i;
    end if;
end $$;
