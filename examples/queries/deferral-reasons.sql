-- Why is mail put off: deferrals by provider and reason.
--
-- provider, category, status, code, deferrals, recipients (different messages and recipients), example
-- Needs records t, tq. One recipient may be put off many times; tq is a whole queue that got no connection.
select provider,
       "bounceCat" as category,
       "enhancedStatus" as status,
       "replyCode" as code,
       count(*) as deferrals,
       count(distinct ("messageId", "rcptIndex")) filter ("messageId" is not null) as recipients,
       min("dsnDiag") as example
from acct
where type in ('t', 'tq')
group by provider, category, status, code
order by deferrals desc, provider, category, status, code;
