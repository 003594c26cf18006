-- How far the projections of this database have come.
create table projection_checkpoints (
    name text not null,
    partition integer not null,
    -- The last offset that is projected, and the event there.
    log_offset integer not null,
    event_id blob,
    -- Of the lease that it was written under.
    epoch integer not null,
    -- Microseconds since 1970.
    updated_at integer not null,
    primary key (name, partition)
) strict, without rowid;

-- How they do.
create table projection_states (
    name text not null primary key,
    -- The log that it is made of.
    log_id blob not null,
    state text not null check (state in ('running', 'rebuilding', 'paused', 'failed')),
    reason text not null default '',
    -- How often it was emptied, and whether it has not caught up since.
    rebuilds integer not null default 0,
    rebuilding integer not null default 0
) strict, without rowid;

-- Streams of which an event could not be projected: what follows it waits in the log's outbox.
create table projection_waiting (
    name text not null,
    stream_id text not null,
    -- The last version that is projected.
    version integer not null,
    ticket blob not null,
    primary key (name, stream_id)
) strict, without rowid;

create table projection_schema (version integer not null) strict;
insert into projection_schema values (1);
