-- The warm-up curve of each VirtualMTA: mail per day since its first, and how it was received.
--
-- vmta, day, day_number (1 is its first), sent (recipients delivered or bounced), growth (against the day before),
-- bounce_rate, block_rate (refused for spam or policy), deferral_rate (deferrals per 100 sent)
-- Needs records d, b, t. Double the volume only while block and deferral rates stay flat.
with days as (
    select vmta, date_trunc('day', "timeLogged")::date as day,
           count(*) filter (type in ('d', 'b')) as sent,
           count(*) filter (type = 'b') as bounced,
           count(*) filter (type = 'b' and "bounceCat" in ('spam-related', 'policy-related')) as blocked,
           count(*) filter (type = 't') as deferred
    from acct
    where type in ('d', 'b', 't') and "bounceCat" is distinct from 'suppressed' and vmta is not null
    group by all
)
select vmta, day,
       row_number() over w as day_number,
       sent,
       round(sent / nullif(lag(sent) over w, 0)::double, 2) as growth,
       round(100.0 * bounced / nullif(sent, 0), 2) as bounce_rate,
       round(100.0 * blocked / nullif(sent, 0), 2) as block_rate,
       round(100.0 * deferred / nullif(sent, 0), 2) as deferral_rate
from days
window w as (partition by vmta order by day)
order by vmta, day;
