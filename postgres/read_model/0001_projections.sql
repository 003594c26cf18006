-- How far the projections of this database have come.
create table projection_checkpoints (
    name text collate "C" not null,
    partition integer not null,
    -- The last offset that is projected, and the event there.
    log_offset bigint not null,
    event_id uuid,
    -- Of the lease that it was written under.
    epoch bigint not null,
    updated_at timestamptz not null default now(),
    primary key (name, partition)
);

-- How they do. The row is also a projection's lock.
create table projection_states (
    name text collate "C" primary key,
    -- The log that it is made of.
    log_id uuid not null,
    state text not null default 'running'
        check (state in ('running', 'rebuilding', 'paused', 'failed')),
    reason text not null default '',
    -- How often it was emptied, and whether it has not caught up since.
    rebuilds bigint not null default 0,
    rebuilding boolean not null default false
);

-- Streams of which an event could not be projected: what follows it waits in the log's outbox.
create table projection_waiting (
    name text collate "C" not null,
    stream_id text collate "C" not null,
    -- The last version that is projected.
    version bigint not null,
    ticket uuid not null,
    primary key (name, stream_id)
);

create table projection_schema (version integer not null);
insert into projection_schema values (1);
