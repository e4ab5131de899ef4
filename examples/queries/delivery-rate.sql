-- Delivery rate by provider and hour: of the recipients whose mail came to an end in that hour, how many were delivered?
--
-- provider, hour, delivered, bounced, delivery_rate (percent), deferrals (attempts put off in that hour)
-- Needs records d, b, t. Mail still in the queue is not in it; suppressed recipients were never tried and are left out.
-- A bounce that came back later (rb) is counted by bounce-categories.sql, not here.
select provider,
       date_trunc('hour', "timeLogged") as hour,
       count(*) filter (type = 'd') as delivered,
       count(*) filter (type = 'b') as bounced,
       round(100.0 * count(*) filter (type = 'd') / nullif(count(*) filter (type in ('d', 'b')), 0), 2) as delivery_rate,
       count(*) filter (type = 't') as deferrals
from acct
where type in ('d', 'b', 't') and "bounceCat" is distinct from 'suppressed'
group by all
order by hour, delivered + bounced desc, provider;
