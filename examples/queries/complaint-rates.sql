-- Complaint rate by campaign and provider, against the lines that large providers draw: 0.1 % is where trouble begins,
-- 0.3 % is where mail gets refused.
--
-- campaign, provider, delivered, complaints, rate (percent), verdict: good below 0.1, warning from there, over from 0.3
-- Needs records d, f. Counted are complaints of type abuse that could be tied to what was sent, once per message and
-- recipient. Providers count complaints against mail in the inbox, so their own figure is higher. Small numbers prove
-- little: one complaint in 300 is already 0.33 %. A provider without a feedback loop shows none.
with sent as (
    select "jobId", provider, count(*) as delivered from acct where type = 'd' group by all
), complained as (
    select "jobId", provider, count(distinct ("messageId", "rcptIndex", rcpt)) as complaints
    from acct where type = 'f' and "feedbackType" = 'abuse' and "attributedBy" is not null group by all
)
select coalesce(sent."jobId", 'unknown') as campaign, sent.provider, delivered,
       coalesce(complaints, 0) as complaints,
       round(100.0 * coalesce(complaints, 0) / delivered, 3) as rate,
       case when 1000 * coalesce(complaints, 0) >= 3 * delivered then 'over'
            when 1000 * coalesce(complaints, 0) >= delivered then 'warning'
            else 'good' end as verdict
from sent left join complained
     on sent."jobId" is not distinct from complained."jobId" and sent.provider is not distinct from complained.provider
order by rate desc, delivered desc, campaign, provider;
