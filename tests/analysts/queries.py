"""Runs every query of examples/queries on a demo's files and compares the answer with one computed without SQL.

usage: queries.py DEMO_FOLDER REPOSITORY; prints one JSON object: query -> rows, or fails saying which answer is wrong.
What the CSV files have is taken from them, read line by line; what only Parquet has, from rows read by pyarrow.
"""
import collections, csv, glob, json, math, os, sys
import duckdb
import pyarrow.parquet

demo, repository = sys.argv[1:3]
os.chdir(demo)

# The files, without DuckDB.
lines = []
for name in glob.glob("acct/**/*.csv", recursive=True):
    with open(name, newline="", encoding="utf-8") as file:
        lines += list(csv.DictReader(file))
rows = {}
for name in glob.glob("acct/**/*.parquet", recursive=True):
    table = pyarrow.parquet.ParquetFile(name).read()
    rows.update({r["eventId"]: r for r in table.to_pylist()})
assert len(lines) == len(rows) > 1000, (len(lines), len(rows))
# Each line of CSV with what only Parquet has.
for line in lines:
    line["parquet"] = rows[line["eventId"]]
    if line["type"] in ("rb", "f"):
        # Not in `*` of these types, so not in this CSV file.
        line["jobId"] = line["parquet"]["jobId"] or ""
    if line["type"] == "tq":
        line["bounceCat"] = line["parquet"]["bounceCat"] or ""

duckdb.sql("set timezone = 'UTC'")
duckdb.sql(open(os.path.join(repository, "schemas/acct.v1.duckdb.sql")).read())


def ask(name):
    text = open(os.path.join(repository, "examples/queries", name + ".sql"), encoding="utf-8").read()
    head = text[: text.index("\nselect") if "\nselect" in text else text.index("\nwith")]
    assert head.startswith("-- ") and "Needs records" in head, f"{name}: a header says what it answers and needs"
    text = text.strip().rstrip(";")
    duckdb.sql(f"copy ({text}\n) to 'answer.json' (format json, array true)")
    return json.load(open("answer.json"))


def same(name, got, wanted):
    def norm(v):
        return round(float(v), 4) if isinstance(v, (int, float)) and not isinstance(v, bool) else v
    got = [{k: norm(v) for k, v in r.items()} for r in got]
    wanted = [{k: norm(v) for k, v in r.items()} for r in wanted]
    key = lambda r: json.dumps(r, sort_keys=True)
    extra, lacking = sorted(map(key, got)), sorted(map(key, wanted))
    if extra != lacking:
        first = next(((a, b) for a, b in zip(extra, lacking) if a != b), (extra[-1:], lacking[-1:]))
        sys.exit(f"{name}: {len(got)} rows, expected {len(wanted)}; first difference:\n  got      {first[0]}\n  expected {first[1]}")
    answers[name] = len(got)


def pct(part, whole, digits=2):
    # Half away from zero, as SQL rounds.
    if not whole:
        return None
    x = 100.0 * part / whole * 10**digits
    return math.floor(x + 0.5) / 10**digits


def group(items, key):
    groups = collections.defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def count(items, *kinds):
    return sum(1 for i in items if i["type"] in kinds)


def percentile(values, p):
    values = sorted(values)
    at = (len(values) - 1) * p
    low, high = math.floor(at), math.ceil(at)
    return values[low] + (values[high] - values[low]) * (at - low)


def half_up(x, digits):
    return math.floor(x * 10**digits + 0.5) / 10**digits


def close(name, got, wanted, keys, tolerance):
    """As `same`, but for figures where a quantile may be rounded either way."""
    index = lambda rows: {tuple(r[k] for k in keys): r for r in rows}
    got_by, wanted_by = index(got), index(wanted)
    if got_by.keys() != wanted_by.keys() or len(got) != len(wanted):
        sys.exit(f"{name}: rows {sorted(got_by.keys() ^ wanted_by.keys(), key=str)[:5]} are only in one answer")
    for key, row in wanted_by.items():
        for column, value in row.items():
            other = got_by[key][column]
            if isinstance(value, float) and other is not None:
                if abs(value - other) > tolerance:
                    sys.exit(f"{name}: {key}: {column} is {other}, expected {value}")
            elif value != other:
                sys.exit(f"{name}: {key}: {column} is {other!r}, expected {value!r}")
    answers[name] = len(got)


answers = {}
null = lambda text: text or None
tried = [l for l in lines if l["type"] in "dbt" and l["bounceCat"] != "suppressed"]

same("delivery-rate", ask("delivery-rate"), [
    dict(provider=p, hour=h + ":00:00+00", delivered=count(g, "d"), bounced=count(g, "b"),
         delivery_rate=pct(count(g, "d"), count(g, "d", "b")), deferrals=count(g, "t"))
    for (p, h), g in group(tried, lambda l: (null(l["provider"]),
                                           l["parquet"]["timeLogged"].strftime("%Y-%m-%d %H"))).items()])

bounced = [l for l in lines if l["type"] in ("b", "rb")]
per_campaign = collections.Counter(l["jobId"] or "unknown" for l in bounced)
same("bounce-categories", ask("bounce-categories"), [
    dict(campaign=c, category=cat, bounces=len(g), at_once=count(g, "b"), later=count(g, "rb"),
         percent=pct(len(g), per_campaign[c]))
    for (c, cat), g in group(bounced, lambda l: (l["jobId"] or "unknown", null(l["bounceCat"]))).items()])

complained = collections.defaultdict(set)
for l in lines:
    if l["type"] == "f" and l["feedbackType"] == "abuse" and l["attributedBy"]:
        complained[l["jobId"], l["provider"]].add((l["messageId"], l["rcptIndex"], l["rcpt"]))
delivered = group([l for l in lines if l["type"] == "d"], lambda l: (l["jobId"], l["provider"]))
wanted = []
for key, g in delivered.items():
    n, rate = len(complained[key]), len(complained[key]) / len(g)
    verdict = "over" if rate >= 0.003 else "warning" if rate >= 0.001 else "good"
    wanted.append(dict(campaign=key[0], provider=key[1], delivered=len(g), complaints=n,
                       rate=half_up(100 * rate, 3), verdict=verdict))
assert any(w["complaints"] for w in wanted) and {w["verdict"] for w in wanted} >= {"good", "over"}
same("complaint-rates", ask("complaint-rates"), wanted)

in_seconds = lambda g: [l["parquet"]["queueMs"] / 1000 for l in g if l["type"] == "d"]
# The milliseconds of Parquet are the difference of its own times, and CSV's whole seconds are near.
for l in (l for l in lines if l["type"] == "d"):
    p = l["parquet"]
    ms = (p["timeLogged"] - p["timeQueued"]).total_seconds() * 1000
    assert int(ms + 1e-6) == p["queueMs"], p
close("time-to-inbox", ask("time-to-inbox"), [
    dict(provider=p, delivered=len(g), slowest=max(in_seconds(g)),
         **{f"p{n}": percentile(in_seconds(g), n / 100) for n in (50, 90, 95, 99)})
    for p, g in group([l for l in lines if l["type"] == "d"], lambda l: l["provider"]).items()], ["provider"], 0.0011)

hard = lambda l: l["type"] in ("b", "rb") and l["bounceCat"] in ("bad-mailbox", "inactive-mailbox", "bad-domain")
addresses = lambda g: len({l["rcpt"].lower() for l in g if l["rcpt"]})
sourced = [l for l in lines if l["type"] in ("d", "b", "rb", "f") and l["bounceCat"] != "suppressed"]
source = lambda l: dict(l["parquet"]["headers"] or []).get("X-List-Source") or l["jobId"] or "unknown"
wanted = []
for s, g in group(sourced, source).items():
    everyone, bad, angry = addresses(g), addresses(filter(hard, g)), addresses(l for l in g if l["type"] == "f")
    wanted.append(dict(source=s, recipients=everyone, hard_bounces=bad, complaints=angry,
                       hard_bounce_rate=pct(bad, everyone), complaint_rate=pct(angry, everyone, 3)))
assert len(wanted) >= 2 and all(w["recipients"] for w in wanted)
same("worst-list-sources", ask("worst-list-sources"), wanted)

first = {}
for l in sorted(lines, key=lambda l: l["parquet"]["timeLogged"]):
    tied = bool(l["attributedBy"])
    permanent = l["dsnStatus"].startswith("5")
    # A domain that does not exist is suppressed only when DNS has said so for an hour; one with a null MX at once.
    dead = hard(l) and (l["bounceCat"] != "bad-domain" or l["dsnStatus"].startswith("5.1.10"))
    if dead and permanent and (l["type"] == "b" or tied):
        first.setdefault(l["rcpt"].lower(), (l["parquet"]["timeLogged"].date(), "bounce"))
    elif l["type"] == "f" and l["feedbackType"] == "abuse" and tied:
        first.setdefault(l["rcpt"].lower(), (l["parquet"]["timeLogged"].date(), "complaint"))
spared = collections.Counter(l["parquet"]["timeLogged"].date() for l in lines if l["bounceCat"] == "suppressed")
wanted, so_far = [], 0
for day in sorted({d for d, _ in first.values()} | set(spared)):
    by = collections.Counter(cause for d, cause in first.values() if d == day)
    so_far += sum(by.values())
    wanted.append(dict(day=str(day), by_bounce=by["bounce"], by_complaint=by["complaint"],
                       addresses_so_far=so_far, sends_spared=spared[day]))
# The second campaign was spared those whom the first had added, and the first the neighbours of a null MX.
assert so_far > 10 and so_far <= sum(w["sends_spared"] for w in wanted) < 1.5 * so_far, (wanted, so_far)
same("suppression-growth", ask("suppression-growth"), wanted)

blocked = lambda g: sum(1 for l in g if l["type"] == "b" and l["bounceCat"] in ("spam-related", "policy-related"))
wanted = []
for vmta, of_vmta in group([l for l in tried if l["vmta"]], lambda l: l["vmta"]).items():
    before = None
    days = group(of_vmta, lambda l: str(l["parquet"]["timeLogged"].date()))
    for number, (day, g) in enumerate(sorted(days.items()), 1):
        sent = count(g, "d", "b")
        wanted.append(dict(vmta=vmta, day=day, day_number=number, sent=sent, growth=half_up(sent / before, 2) if before else None,
                           bounce_rate=pct(count(g, "b"), sent), block_rate=pct(blocked(g), sent),
                           deferral_rate=pct(count(g, "t"), sent)))
        before = sent
same("warm-up", ask("warm-up"), wanted)

code = lambda l: int(l["dsnDiag"][5:8]) if l["dsnDiag"].startswith("smtp;") else None
put_off = [l for l in lines if l["type"] in ("t", "tq")]
reason = lambda l: (null(l["provider"]), null(l["bounceCat"]), null(l["dsnStatus"].split(" ")[0]), code(l))
assert any(l["type"] == "tq" for l in put_off) and any(l["type"] == "t" for l in put_off)
same("deferral-reasons", ask("deferral-reasons"), [
    dict(provider=k[0], category=k[1], status=k[2], code=k[3], deferrals=len(g),
         recipients=len({(l["messageId"], l["rcptIndex"]) for l in g if l["messageId"]}),
         example=min((l["dsnDiag"] for l in g if l["dsnDiag"]), default=None))
    for k, g in group(put_off, reason).items()])

ruled = [l for l in lines if l["type"] in ("b", "t", "rb") and l["bounceRule"]]
same("top-bounce-rules", ask("top-bounce-rules"), [
    dict(rule=k[0], category=k[1], version=k[2], decisions=len(g), bounces=count(g, "b", "rb"),
         providers=len({l["provider"] for l in g if l["provider"]}),
         example=min((l["dsnDiag"] for l in g if l["dsnDiag"]), default=None))
    for k, g in group(ruled, lambda l: (l["bounceRule"], l["bounceCat"], null(l["classifierVersion"]))).items()])

ended = [l for l in lines if l["type"] in ("d", "b") and l["attempt"]]
total, so_far, wanted = count(ended, "d"), 0, []
for attempt, g in sorted(group(ended, lambda l: int(l["attempt"])).items()):
    so_far += count(g, "d")
    wanted.append(dict(attempt=attempt, delivered=count(g, "d"), bounced=count(g, "b"),
                       percent_of_delivered=pct(count(g, "d"), total), cumulative=pct(so_far, total),
                       median_seconds=percentile(in_seconds(g), 0.5) if count(g, "d") else None))
assert len(wanted) > 1
close("retries", ask("retries"), wanted, ["attempt"], 0.051)

wanted = []
for p, g in group([l for l in lines if l["type"] == "d"], lambda l: l["provider"]).items():
    versions = collections.Counter(l["parquet"]["dlvTlsProtocol"] or "none" for l in g)
    encrypted = sum(n for v, n in versions.items() if v != "none")
    wanted.append(dict(provider=p, delivered=len(g), encrypted=encrypted or None,
                       encrypted_percent=pct(encrypted, len(g)), versions=dict(versions)))
assert any(w["encrypted"] for w in wanted) and not all(w["encrypted"] for w in wanted)
got = ask("tls-share")
for r in got:
    r["versions"] = {k: v for k, v in (r["versions"].items() if isinstance(r["versions"], dict) else r["versions"])}
same("tls-share", got, wanted)

wanted = []
for (p, v, ip), g in group([l for l in tried if l["dlvSourceIp"]],
                           lambda l: (null(l["provider"]), null(l["vmta"]), l["dlvSourceIp"])).items():
    sent = count(g, "d", "b")
    wanted.append(dict(provider=p, vmta=v, source_ip=ip, sent=sent, delivery_rate=pct(count(g, "d"), sent),
                       block_rate=pct(blocked(g), sent), deferrals_per_100=pct(count(g, "t"), sent),
                       median_seconds=percentile(in_seconds(g), 0.5) if count(g, "d") else None))
close("vmta-comparison", ask("vmta-comparison"), wanted, ["provider", "vmta", "source_ip"], 0.0011)

unchecked = {f[:-4] for f in os.listdir(os.path.join(repository, "examples/queries")) if f.endswith(".sql")} - set(answers)
assert not unchecked, f"no check for {sorted(unchecked)}"
print(json.dumps(answers))
