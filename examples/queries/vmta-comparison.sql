-- The VirtualMTAs side by side at each provider: is one address treated worse than the others?
--
-- provider, vmta, source_ip, sent, delivery_rate, block_rate, deferrals_per_100, median_seconds
-- Needs records d, b, t. Compare only rows of one provider, and only those that sent comparable mail.
select provider, vmta, "dlvSourceIp" as source_ip,
       count(*) filter (type in ('d', 'b')) as sent,
       round(100.0 * count(*) filter (type = 'd') / nullif(count(*) filter (type in ('d', 'b')), 0), 2) as delivery_rate,
       round(100.0 * count(*) filter (type = 'b' and "bounceCat" in ('spam-related', 'policy-related'))
             / nullif(count(*) filter (type in ('d', 'b')), 0), 2) as block_rate,
       round(100.0 * count(*) filter (type = 't') / nullif(count(*) filter (type in ('d', 'b')), 0), 2) as deferrals_per_100,
       round(quantile_cont("queueMs", 0.5) filter (type = 'd') / 1000, 3) as median_seconds
from acct
where type in ('d', 'b', 't') and "dlvSourceIp" is not null
group by all
order by provider, sent desc, vmta, source_ip;
