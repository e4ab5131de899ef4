-- How much mail leaves encrypted: deliveries by provider and TLS version.
--
-- provider, delivered, encrypted, encrypted_percent, versions (TLS version -> deliveries)
-- Needs records d. Encrypted is not authenticated: opportunistic TLS takes any certificate.
select provider,
       sum(n)::bigint as delivered,
       sum(n) filter (protocol <> 'none')::bigint as encrypted,
       round(100.0 * coalesce(sum(n) filter (protocol <> 'none'), 0) / sum(n), 2) as encrypted_percent,
       map(list(protocol order by protocol), list(n order by protocol)) as versions
from (
    select provider, coalesce("dlvTlsProtocol", 'none') as protocol, count(*) as n
    from acct where type = 'd' group by all
)
group by provider
order by delivered desc, provider;
