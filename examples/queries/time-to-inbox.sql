-- Time from our accepting a message to the provider's: percentiles by provider, in seconds.
--
-- provider, delivered, p50, p90, p95, p99, slowest
-- Needs records d. What the provider does with it afterwards (foldering, its own queues) nobody outside can see.
select provider,
       count(*) as delivered,
       round(quantile_cont("queueMs", 0.50) / 1000, 3) as p50,
       round(quantile_cont("queueMs", 0.90) / 1000, 3) as p90,
       round(quantile_cont("queueMs", 0.95) / 1000, 3) as p95,
       round(quantile_cont("queueMs", 0.99) / 1000, 3) as p99,
       round(max("queueMs") / 1000, 3) as slowest
from acct
where type = 'd'
group by provider
order by delivered desc, provider;
