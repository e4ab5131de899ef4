-- How many attempts until delivered, and how many never are?
--
-- attempt, delivered, bounced, percent_of_delivered, cumulative (percent delivered by then), median_seconds (in the queue)
-- Needs records d, b. A tail that delivers nothing after many attempts says that bounce-after is too long.
select attempt,
       count(*) filter (type = 'd') as delivered,
       count(*) filter (type = 'b') as bounced,
       round(100.0 * count(*) filter (type = 'd') / sum(count(*) filter (type = 'd')) over (), 2) as percent_of_delivered,
       round(100.0 * sum(count(*) filter (type = 'd')) over (order by attempt)
             / sum(count(*) filter (type = 'd')) over (), 2) as cumulative,
       round(quantile_cont("queueMs", 0.5) filter (type = 'd') / 1000, 1) as median_seconds
from acct
where type in ('d', 'b') and attempt is not null
group by attempt
order by attempt;
