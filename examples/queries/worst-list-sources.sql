-- Which sources of addresses are bad: hard bounces and complaints by where the addresses came from.
--
-- source, recipients, hard_bounces, complaints, hard_bounce_rate, complaint_rate (percent of recipients)
-- Needs records d, b, rb, f. A source is what your own header says (here X-List-Source; kept with header_X-List-Source in
-- record-fields), else the campaign. Recipients are counted once per source. Over 2 % hard bounces, stop using a source.
with events as (
    select *, coalesce(headers['X-List-Source'], "jobId", 'unknown') as source from acct
)
select source,
       count(distinct lower(rcpt)) as recipients,
       count(distinct lower(rcpt)) filter (hard) as hard_bounces,
       count(distinct lower(rcpt)) filter (type = 'f') as complaints,
       round(100.0 * count(distinct lower(rcpt)) filter (hard) / nullif(count(distinct lower(rcpt)), 0), 2)
           as hard_bounce_rate,
       round(100.0 * count(distinct lower(rcpt)) filter (type = 'f') / nullif(count(distinct lower(rcpt)), 0), 3)
           as complaint_rate
from (
    select *, type in ('b', 'rb') and "bounceCat" in ('bad-mailbox', 'inactive-mailbox', 'bad-domain') as hard
    from events where type in ('d', 'b', 'rb', 'f') and "bounceCat" is distinct from 'suppressed'
)
group by source
order by hard_bounce_rate desc, complaint_rate desc, source;
