-- How the suppression list grows: addresses that bounced hard or complained for the first time, by day, and the mail that
-- was not sent because of it.
--
-- day, by_bounce, by_complaint, addresses_so_far, sends_spared
-- Needs records b, rb, f. Hard: 5xx with category bad-mailbox or inactive-mailbox, or a null MX (5.1.10), which suppresses
-- its whole domain; the slower rules of <auto-suppression> are not followed here. Reports count when they
-- were tied to what was sent, as for the list itself. Entries made by hand, and removals, are not in the files:
-- `carom suppress list` has the list as it is.
with causes as (
    select lower(rcpt) as address, "timeLogged" as moment, 'bounce' as cause from acct
    where ("bounceCat" in ('bad-mailbox', 'inactive-mailbox') or "enhancedStatus" = '5.1.10') and "enhancedStatus" like '5%'
      and (type = 'b' or (type = 'rb' and "attributedBy" is not null))
    union all
    select lower(rcpt), "timeLogged", 'complaint' from acct
    where type = 'f' and "feedbackType" = 'abuse' and "attributedBy" is not null
), first_causes as (
    select address, min(moment) as moment, arg_min(cause, moment) as cause from causes where address is not null group by address
), days as (
    select date_trunc('day', moment)::date as day, cause, 0 as spared from first_causes
    union all
    select date_trunc('day', "timeLogged")::date, null, 1 from acct where type = 'b' and "bounceCat" = 'suppressed'
)
select day,
       count(*) filter (cause = 'bounce') as by_bounce,
       count(*) filter (cause = 'complaint') as by_complaint,
       sum(count(cause)) over (order by day) as addresses_so_far,
       sum(spared) as sends_spared
from days
group by day
order by day;
