"""Reads a folder of accounting files of several schema versions by one glob, with every tool that is installed.

usage: tools.py FOLDER; FOLDER/acct/date=.../*.parquet was written by Carom and holds the record that `odd.json` describes.
Beside it this puts an older file, which lacks two columns, and a newer one, which has one more. Prints one JSON object:
tool -> what it saw.
"""
import glob, json, os, sys
import duckdb, pandas, polars, pyarrow, pyarrow.dataset, pyarrow.parquet

folder = sys.argv[1]
os.chdir(folder)
odd = json.load(open("odd.json", encoding="utf-8"))
source = sorted(glob.glob("acct/date=*/*.parquet"))[0]
table = pyarrow.parquet.ParquetFile(source).read()
os.makedirs("acct/date=2025-01-01", exist_ok=True)
pyarrow.parquet.write_table(table.drop_columns(["smtpStage", "inDoubt"]), "acct/date=2025-01-01/acct-0000000000000001.parquet")
os.makedirs("acct/date=2027-01-01", exist_ok=True)
newer = table.append_column("newColumn", pyarrow.array(["new"] * len(table)))
pyarrow.parquet.write_table(newer, "acct/date=2027-01-01/acct-0000000000000001.parquet")
# A file that is being written must not be seen, whatever is in it.
open("acct/date=2027-01-01/.acct-0000000000000002.parquet.inprogress", "w").write("half a file")

pattern = "acct/**/*.parquet"
files = sorted(glob.glob(pattern, recursive=True))
rows = sum(pyarrow.parquet.ParquetFile(f).metadata.num_rows for f in files)
seen = {"files": len(files), "rows": rows}


def saw(tool, count, with_stage, new, text_length, word):
    seen[tool] = dict(rows=int(count), stage=int(with_stage), new=int(new), longest=int(text_length), odd=word)


name = odd["rcpt"]
c = duckdb.sql(f"""
    select count(*), count("smtpStage"), count("newColumn"), max(length("dsnDiag")),
           any_value(rcpt) filter (rcpt = '{name}')
    from read_parquet('{pattern}', hive_partitioning = true, union_by_name = true)""").fetchall()[0]
saw("duckdb", *c)
assert duckdb.sql(f"select count(*) from read_parquet('{pattern}', hive_partitioning = true, union_by_name = true) where date = '2027-01-01'").fetchall()[0][0] == len(table)
assert duckdb.sql(f"select typeof(\"timeLogged\"), typeof(headers), typeof(\"dlvEsmtpAvailable\") from '{source}' limit 1").fetchall()[0] == \
    ("TIMESTAMP WITH TIME ZONE", "MAP(VARCHAR, VARCHAR)", "VARCHAR[]")

schema = pyarrow.unify_schemas([pyarrow.parquet.read_schema(f) for f in files])
d = pyarrow.dataset.dataset("acct", schema=schema, format="parquet", partitioning="hive").to_table().to_pandas()
saw("pyarrow", len(d), d["smtpStage"].count(), d["newColumn"].count(), d["dsnDiag"].str.len().max(), d["rcpt"][d["rcpt"] == name].iloc[0])

p = pandas.read_parquet("acct", schema=schema)
saw("pandas", len(p), p["smtpStage"].count(), p["newColumn"].count(), p["dsnDiag"].str.len().max(), p["rcpt"][p["rcpt"] == name].iloc[0])
assert str(p["timeLogged"].dtype).startswith("datetime64") and "UTC" in str(p["timeLogged"].dtype), p["timeLogged"].dtype

l = polars.scan_parquet(files, missing_columns="insert", extra_columns="ignore").select(
    polars.len().alias("n"), polars.col("smtpStage").count().alias("s"), polars.col("dsnDiag").str.len_chars().max().alias("x"),
    polars.col("rcpt").filter(polars.col("rcpt") == name).first().alias("o")) if "smtpStage" in polars.read_parquet_schema(files[0]) else None
frames = [polars.read_parquet(f, hive_partitioning=False) for f in files]
f = polars.concat(frames, how="diagonal")
saw("polars", len(f), f["smtpStage"].count(), f["newColumn"].count(), f["dsnDiag"].str.len_chars().max(), f.filter(polars.col("rcpt") == name)["rcpt"][0])
# And lazily, by the glob itself, for the columns that all versions have.
lazy = polars.scan_parquet(pattern, missing_columns="insert", extra_columns="ignore", hive_partitioning=False)
assert lazy.select(polars.len()).collect().item() == rows

try:
    import chdb
except ImportError:
    seen["clickhouse"] = "not installed"
else:
    query = f"""
        select count(), countIf(smtpStage is not null), countIf(newColumn is not null), max(lengthUTF8(dsnDiag)),
               anyIf(rcpt, rcpt = '{name}')
        from file('acct/**/*.parquet', Parquet)
        settings schema_inference_mode = 'union'"""
    c = json.loads(str(chdb.query(query, "JSONCompact")))["data"][0]
    saw("clickhouse", *c)
    # The published table takes the files as they are.
    from chdb import session
    s = session.Session()
    ddl = open(sys.argv[2], encoding="utf-8").read()
    ddl = "\n".join(l for l in ddl.splitlines() if not l.startswith("--"))
    s.query("create database if not exists x; ")
    s.query("use x")
    s.query(ddl)
    s.query(f"insert into acct select * from file('{os.getcwd()}/{source}', Parquet)")
    s.query(f"insert into acct select * from file('{os.getcwd()}/{source}', Parquet)")
    n = json.loads(str(s.query("select count(), max(length(headers)) from acct final", "JSONCompact")))["data"][0]
    assert int(n[0]) == len(table), (n, len(table))
print(json.dumps(seen))
