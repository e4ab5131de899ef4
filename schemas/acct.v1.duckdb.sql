-- Schema version 1; made from the field table. For DuckDB: run in the folder that holds `acct/`.
-- Only whole files match; `date` is the UTC date of a file's first record and prunes folders.
CREATE OR REPLACE VIEW acct AS
SELECT * FROM read_parquet('acct/**/*.parquet', hive_partitioning = true, union_by_name = true);

-- What happened to each recipient in the end.
CREATE OR REPLACE VIEW acct_outcomes AS
SELECT "messageId", "rcptIndex", "rcpt", "provider", "jobId", "type", "bounceCat", "dsnStatus", "dsnDiag",
       "timeQueued", "timeLogged", "queueMs", "attempt"
FROM acct WHERE "type" IN ('d', 'b');

-- Per provider and hour: deliveries, bounces, deferrals, complaints.
CREATE OR REPLACE VIEW acct_by_provider AS
SELECT "provider", date_trunc('hour', "timeLogged") AS hour,
       count(*) FILTER ("type" = 'd') AS delivered,
       count(*) FILTER ("type" = 'b') AS bounced,
       count(*) FILTER ("type" = 't') AS deferred,
       count(*) FILTER ("type" = 'rb') AS bounced_later,
       count(*) FILTER ("type" = 'f') AS complaints
FROM acct GROUP BY ALL;
