-- Returns the codes of the members of a batch, checked in this order: 1 committed by an earlier
-- call, 2 duplicate, 3 closed, 5 stale timers, 4 conflict; 0 passes. Only called when some member
-- does not pass.
create or replace function check_appends(
    p_partition smallint,
    m_stream text[], m_expected bigint[], m_events integer[],
    actual bigint[], closed boolean[],
    e_member integer[], e_index integer[], e_id uuid[], e_type text[],
    e_schema integer[], e_codec text[], e_data bytea[],
    k_member integer[], k_stream text[], k_id uuid[], k_digest uuid[], k_last integer[],
    k_count integer[], k_outcome bytea[],
    f_member integer[], f_stream text[], f_id text[], f_armed_by uuid[], f_armed_index bigint[],
    out result bigint[], out passed boolean[], out shift bigint[]
)
language plpgsql volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    -- By fired timer: true if it is not armed so.
    stale boolean[] := array(
        select not coalesce((
            select t.armed_by = f.armed_by and t.armed_index = f.armed_index from timers t
            where t.partition = p_partition and t.stream_id = f.stream and t.timer_id = f.id
            limit 1
        ), false)
        from unnest(f_stream, f_id, f_armed_by, f_armed_index)
            with ordinality f(stream, id, armed_by, armed_index, nth)
        order by f.nth
    );
    stale_members integer[] := array(
        select f.member from unnest(f_member, stale) f(member, stale) where f.stale
    );
begin
    with entry as (
        select k.member, k.count, k.last, k.digest, k.outcome,
            i.message_id, i.version, i.log_offset, i.digest as stored, i.outcome as stored_outcome
        from unnest(k_member, k_stream, k_id, k_digest, k_last, k_count, k_outcome)
            k(member, stream, id, digest, last, count, outcome)
        left join lateral (
            select i.* from inbox i
            where i.partition = p_partition and i.stream_id = k.stream and i.message_id = k.id
            limit 1
        ) i on true
    ), entries as (
        -- `base` is the version before the append, according to its inbox entries.
        select member, min(version - last) as base,
            bool_or(message_id is not null) as any_exists,
            bool_and(coalesce(
                digest = stored and (count > 0) = (log_offset is not null)
                -- An erased outcome is empty: the event ids decide.
                and (outcome = stored_outcome or stored_outcome = '' and m_events[member] > 0),
                false
            )) and min(version - last) = max(version - last) as same
        from entry group by member
    ), member as (
        select m.nth, m.expected, m.events, m.actual, m.closed, k.any_exists,
            case when m.expected >= 0 then m.expected else k.base end as base,
            case when k.member is null then m.expected >= 0 and m.events > 0
                else k.same and (m.expected < 0 or m.expected = k.base) end as likely
        from unnest(m_expected, m_events, actual, closed)
            with ordinality m(expected, events, actual, closed, nth)
        left join entries k on k.member = m.nth
    ), differing as (
        -- Members with an event that is not stored as it would be. Equal ids are not enough: a
        -- message that is decided again may produce other content under the same ids. An erased
        -- event equals any; metadata is not part of a state.
        select m.nth from member m
        join unnest(e_member, e_index, e_id, e_type, e_schema, e_codec, e_data)
            e(member, index, id, type, schema, codec, data) on e.member = m.nth
        where m.likely and m.actual >= m.base + m.events and (
            select v.event_id = e.id and (v.event_type = '$erased' or (
                v.event_type = e.type and v.schema_version = e.schema
                and v.codec = e.codec and v.event_data = e.data
            ))
            from events v
            where v.partition = p_partition and v.stream_id = m_stream[m.nth]
            and v.version = m.base + e.index
            limit 1
        ) is not true
    ), checked as (
        select m.*, case
            when m.likely and m.actual >= m.base + m.events
                and not exists (select from differing d where d.nth = m.nth) then 1
            when m.any_exists then 2
            when m.closed then 3
            when m.nth = any (stale_members) then 5
            when m.expected = -1 then 0
            when m.expected = -2 then case when m.actual > 0 then 0 else 4 end
            when m.expected = m.actual then 0
            else 4
        end as code
        from member m
    )
    select
        array_agg(j.code::bigint order by j.nth)
        || array_agg(case when j.code = 1 then j.base + j.events end order by j.nth)
        || array_agg(case when j.code = 1 and j.events > 0 then (
            select v.log_offset from events v
            where v.partition = p_partition and v.stream_id = m_stream[j.nth]
            and v.version = j.base + j.events
            limit 1
        ) end order by j.nth)
        || array(select v::integer::bigint from unnest(stale) with ordinality v(v, nth) order by nth),
        array_agg(j.code = 0 order by j.nth),
        array_agg(j.shift order by j.nth)
    into result, passed, shift
    from (
        select j.*, coalesce(sum(case when j.code = 0 then 0 else j.events end) over (
            order by j.nth rows between unbounded preceding and 1 preceding
        ), 0) as shift
        from checked j
    ) j;
end $$;

-- Appends a batch to one log partition: one call, one transaction, one commit.
--
-- Call it in autocommit: a client that is frozen inside BEGIN would hold the partition. The members
-- of the batch are the elements of the m_ arrays; e_, k_, o_, t_, c_ and f_ hold the events, inbox
-- entries, outbox rows, armed, cancelled and fired timers of all of them, in the order of members,
-- whose index (from 1) is in …_member. All the arrays of a group have one length.
--
-- Returns the highest offset before the batch, then each member's version before it. Unless all
-- members passed, these are followed by a code for each member (0 passed, 1 committed by an earlier
-- call, 2 duplicate, 3 closed, 4 conflict, 5 stale timers), by the versions and the offsets of the
-- earlier call for code 1, and by a 1 for each fired timer that is not armed so (0 for the others).
-- A member that does not pass writes nothing.
--
-- Plans are made once, when the tables may be empty, and kept. They must be right for full tables:
-- connections that append set plan_cache_mode = force_generic_plan, enable_seqscan = off,
-- enable_bitmapscan = off and jit = off (within the function that would cost 26 microseconds a
-- call).
create or replace function append_events(
    p_partition smallint,
    -- m_first: events of the members before; m_expected: a version, -1 for any, -2 for at least 1.
    m_stream text[], m_expected bigint[], m_first integer[], m_events integer[],
    -- e_index: from 1, within the member. Text that is null is no metadata.
    e_member integer[], e_stream text[], e_index integer[], e_id uuid[], e_type text[],
    e_schema integer[], e_codec text[], e_data bytea[], e_metadata text[],
    -- k_last: events of the member up to the last that the message caused.
    k_member integer[], k_stream text[], k_id uuid[], k_digest uuid[], k_last integer[],
    k_count integer[], k_outcome bytea[],
    o_member integer[] = '{}', o_stream text[] = '{}', o_id uuid[] = '{}', o_kind text[] = '{}',
    o_target text[] = '{}', o_recipient text[] = '{}', o_type text[] = '{}',
    o_schema integer[] = '{}', o_codec text[] = '{}', o_data bytea[] = '{}',
    o_metadata text[] = '{}',
    -- t_due: microseconds from now if t_relative, since 1970 otherwise.
    t_member integer[] = '{}', t_stream text[] = '{}', t_id text[] = '{}',
    t_message uuid[] = '{}', t_armed_by uuid[] = '{}', t_armed_index bigint[] = '{}',
    t_relative boolean[] = '{}', t_due bigint[] = '{}', t_type text[] = '{}',
    t_schema integer[] = '{}', t_codec text[] = '{}', t_data bytea[] = '{}',
    t_metadata text[] = '{}',
    -- A c_id that is null is every timer of the stream.
    c_member integer[] = '{}', c_stream text[] = '{}', c_id text[] = '{}',
    f_member integer[] = '{}', f_stream text[] = '{}', f_id text[] = '{}',
    f_armed_by uuid[] = '{}', f_armed_index bigint[] = '{}'
) returns bigint[]
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    head bigint;
    actual bigint[];
    closed boolean[];
    result bigint[];
    all_pass boolean;
    passed boolean[];   -- by member; null: all passed
    shift bigint[];     -- by member: events before its own of members that did not pass
    moment timestamptz;
    drawn bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'appends need READ COMMITTED, not %',
            upper(current_setting('transaction_isolation'))
            using errcode = 'invalid_transaction_state';
    end if;
    perform from partitions where partition = p_partition for update;
    if not found then
        raise exception 'there is no log partition %', p_partition
            using errcode = 'invalid_parameter_value';
    end if;
    moment := clock_timestamp();

    -- Separate statements, whose snapshots are younger than the lock.
    if k_id <> '{}' then
        select bool_and(not coalesce((
            select true from inbox i
            where i.partition = p_partition and i.stream_id = k.stream and i.message_id = k.id
            limit 1
        ), false)) into all_pass
        from unnest(k_stream, k_id) k(stream, id);
    end if;

    if f_id <> '{}' then
        -- Every change of timers holds the lock, so the armed timers cannot change before they are
        -- deleted.
        select coalesce(all_pass, true) and bool_and(coalesce((
            select t.armed_by = f.armed_by and t.armed_index = f.armed_index from timers t
            where t.partition = p_partition and t.stream_id = f.stream and t.timer_id = f.id
            limit 1
        ), false)) into all_pass
        from unnest(f_stream, f_id, f_armed_by, f_armed_index)
            f(stream, id, armed_by, armed_index);
    end if;

    select
        coalesce((
            select e.log_offset from events e where e.partition = p_partition
            order by e.log_offset desc limit 1
        ), 0),
        array_agg(coalesce(last.version, 0)),
        array_agg(coalesce(last.closed, false)),
        coalesce(all_pass, true) and bool_and(case
            when last.closed then false
            when m.expected = -1 then true
            when m.expected = -2 then last.version > 0
            else m.expected = coalesce(last.version, 0)
        end)
    into head, actual, closed, all_pass
    from unnest(m_stream, m_expected) m(stream, expected)
    left join lateral (
        select e.version, e.event_type = '$closed' as closed from events e
        where e.partition = p_partition and e.stream_id = m.stream
        order by e.version desc limit 1
    ) last on true;

    if all_pass is not true then
        select j.result, j.passed, j.shift into result, passed, shift from check_appends(
            p_partition, m_stream, m_expected, m_events, actual, closed,
            e_member, e_index, e_id, e_type, e_schema, e_codec, e_data,
            k_member, k_stream, k_id, k_digest, k_last, k_count, k_outcome,
            f_member, f_stream, f_id, f_armed_by, f_armed_index
        ) j;
        if not true = any (passed) then
            return head || actual || result;
        end if;
    end if;

    if e_id <> '{}' then
        insert into events (
            version, log_offset, created_at, event_id, schema_version, partition,
            stream_id, event_type, codec, event_data, metadata
        )
        select actual[e.member] + e.index, head + e.nth - coalesce(shift[e.member], 0),
            moment, e.id, e.schema, p_partition,
            e.stream, e.type, e.codec, e.data, e.metadata::jsonb
        from unnest(
            e_member, e_stream, e_index, e_id, e_type, e_schema, e_codec, e_data, e_metadata
        ) with ordinality e(member, stream, index, id, type, schema, codec, data, metadata, nth)
        where passed is null or passed[e.member];
    end if;

    if k_id <> '{}' then
        insert into inbox (
            version, log_offset, created_at, message_id, digest, partition, stream_id, outcome
        )
        select actual[k.member] + k.last,
            case when k.count > 0 then
                head + m_first[k.member] + k.last - coalesce(shift[k.member], 0)
            end,
            moment, k.id, k.digest, p_partition, k.stream, k.outcome
        from unnest(k_member, k_stream, k_id, k_digest, k_last, k_count, k_outcome)
            k(member, stream, id, digest, last, count, outcome)
        where passed is null or passed[k.member];
    end if;

    if o_id <> '{}' then
        -- One number for the batch, drawn under the lock, then the index within the batch.
        drawn := nextval('outbox_sequence');
        insert into outbox (
            sequence, index, created_at, id, schema_version, partition, kind, target,
            stream_id, recipient, message_type, codec, message_data, metadata
        )
        select drawn, o.nth, moment, o.id, o.schema, p_partition, o.kind, o.target,
            o.stream, o.recipient, o.type, o.codec, o.data, o.metadata::jsonb
        from unnest(
            o_member, o_stream, o_id, o_kind, o_target, o_recipient, o_type, o_schema,
            o_codec, o_data, o_metadata
        ) with ordinality o(
            member, stream, id, kind, target, recipient, type, schema,
            codec, data, metadata, nth
        )
        where passed is null or passed[o.member];
    end if;

    if f_id <> '{}' then
        delete from timers where ctid = any (array(
            select doomed.row
            from unnest(f_member, f_stream, f_id) f(member, stream, id),
            lateral (
                select t.ctid as row from timers t
                where t.partition = p_partition and t.stream_id = f.stream and t.timer_id = f.id
                offset 0
            ) doomed
            where passed is null or passed[f.member]
        ));
    end if;

    if c_stream <> '{}' then
        delete from timers where ctid = any (array(
            select doomed.row
            from unnest(c_member, c_stream, c_id) c(member, stream, id),
            lateral (
                select t.ctid as row from timers t
                where t.partition = p_partition and t.stream_id = c.stream
                and (c.id is null or t.timer_id = c.id)
                offset 0
            ) doomed
            where passed is null or passed[c.member]
        ));
    end if;

    -- A change of a timer also removes a parked timer of the same id.
    if (c_stream <> '{}' or t_id <> '{}') and exists (
        select from dead_letters d where d.partition = p_partition and d.kind = 'timer' limit 1
    ) then
        delete from dead_letters where ctid = any (array(
            select doomed.row
            from (
                select * from unnest(c_member, c_stream, c_id) c(member, stream, id)
                union all
                select * from unnest(t_member, t_stream, t_id) t(member, stream, id)
            ) g,
            lateral (
                select d.ctid as row from dead_letters d
                where d.partition = p_partition and d.kind = 'timer'
                and d.target = split_part(g.stream, '-', 1) and d.stream_id = g.stream
                and (g.id is null or d.recipient = g.id)
                offset 0
            ) doomed
            where passed is null or passed[g.member]
        ));
    end if;

    if t_id <> '{}' then
        insert into timers as t (
            due, armed_at, id, armed_by, armed_index, schema_version, partition, category,
            stream_id, timer_id, message_type, codec, message_data, metadata
        )
        select
            case when a.relative then moment + a.due * interval '1 microsecond'
                else timestamptz '1970-01-01T00:00:00Z' + a.due * interval '1 microsecond' end,
            moment, a.message, a.armed_by, a.armed_index, a.schema, p_partition,
            split_part(a.stream, '-', 1), a.stream, a.id, a.type, a.codec, a.data,
            a.metadata::jsonb
        from unnest(
            t_member, t_stream, t_id, t_message, t_armed_by, t_armed_index, t_relative, t_due,
            t_type, t_schema, t_codec, t_data, t_metadata
        ) a(
            member, stream, id, message, armed_by, armed_index, relative, due,
            type, schema, codec, data, metadata
        )
        where passed is null or passed[a.member]
        on conflict on constraint timers_pkey do update set
            due = excluded.due, armed_at = excluded.armed_at, id = excluded.id,
            armed_by = excluded.armed_by, armed_index = excluded.armed_index, attempts = 0,
            last_error = null, schema_version = excluded.schema_version, message_type = excluded.message_type,
            codec = excluded.codec, message_data = excluded.message_data,
            metadata = excluded.metadata;
    end if;

    return head || actual || result;
end $$;

-- The same for a single event and nothing else, which is the most common append: scalars and one
-- statement for reading and writing take half of the time.
create or replace function append_event(
    p_partition smallint, p_stream text, p_expected bigint, p_id uuid, p_type text,
    p_schema integer, p_codec text, p_data bytea, p_metadata text
) returns bigint[]
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    new_version bigint;
    new_offset bigint;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'appends need READ COMMITTED, not %',
            upper(current_setting('transaction_isolation'))
            using errcode = 'invalid_transaction_state';
    end if;
    perform from partitions where partition = p_partition for update;
    if not found then
        raise exception 'there is no log partition %', p_partition
            using errcode = 'invalid_parameter_value';
    end if;

    insert into events (
        version, log_offset, created_at, event_id, schema_version, partition,
        stream_id, event_type, codec, event_data, metadata
    )
    select coalesce(last.version, 0) + 1,
        coalesce((
            select e.log_offset from events e where e.partition = p_partition
            order by e.log_offset desc limit 1
        ), 0) + 1,
        clock_timestamp(), p_id, p_schema, p_partition,
        p_stream, p_type, p_codec, p_data, p_metadata::jsonb
    from (select) here
    left join lateral (
        select e.version, e.event_type from events e
        where e.partition = p_partition and e.stream_id = p_stream
        order by e.version desc limit 1
    ) last on true
    where last.event_type is distinct from '$closed'
    and case p_expected
        when -1 then true
        when -2 then last.version > 0
        else p_expected = coalesce(last.version, 0)
    end
    returning version, log_offset into new_version, new_offset;
    if found then
        return array[new_offset - 1, new_version - 1];
    end if;

    return append_events(
        p_partition, array[p_stream], array[p_expected], array[0], array[1],
        array[1], array[p_stream], array[1], array[p_id], array[p_type], array[p_schema],
        array[p_codec], array[p_data], array[p_metadata], '{}', '{}', '{}', '{}', '{}', '{}', '{}'
    );
end $$;

create or replace function event_store_schema_version() returns integer
language sql immutable as 'select 2';
