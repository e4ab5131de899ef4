-- Which pattern rules decide, and what do they decide? Bounces and deferrals by rule.
--
-- rule (file and line), category, version (of the rules), decisions, bounces, providers, example
-- Needs records b, t, rb. A rule that decides for many providers what one of them said deserves a look; category other
-- means no rule knew the words.
select "bounceRule" as rule,
       "bounceCat" as category,
       "classifierVersion" as version,
       count(*) as decisions,
       count(*) filter (type in ('b', 'rb')) as bounces,
       count(distinct provider) as providers,
       min("dsnDiag") as example
from acct
where type in ('b', 't', 'rb') and "bounceRule" is not null
group by rule, category, version
order by decisions desc, rule, category;
