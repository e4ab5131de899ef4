-- Bounce categories by campaign: why did mail not arrive, at once (b) and later (rb)?
--
-- campaign, category, bounces, at_once, later, percent (of this campaign's bounces)
-- Needs records b, rb. A campaign is a job (X-Job). Later bounces have a campaign only when they could be tied to what
-- was sent (attributedBy); the others stand under "unknown".
select coalesce("jobId", 'unknown') as campaign,
       "bounceCat" as category,
       count(*) as bounces,
       count(*) filter (type = 'b') as at_once,
       count(*) filter (type = 'rb') as later,
       round(100.0 * count(*) / sum(count(*)) over (partition by coalesce("jobId", 'unknown')), 2) as percent
from acct
where type in ('b', 'rb')
group by 1, 2
order by campaign, bounces desc, category;
