"""What is dropped and counted, what is refused, and how users and items are numbered."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import polars as pl
import pytest

from rlrf4rec.config import Config, parse_config
from rlrf4rec.data import load_dataset, reading_histories
from rlrf4rec.data.cleaning import needed_interactions
from rlrf4rec.errors import DataError
from rlrf4rec.records import Dataset
from rlrf4rec.say_once import say_once

HEAD = "user_id,item_id,rating,timestamp\n"
RATED = {"rating": "rating", "timestamp": "timestamp"}


def item_ids(data: Dataset, user_id: str) -> list[str]:
    """The user's items, oldest first."""
    joined = data.interactions.join(data.users, on="user").join(data.items, on="item")
    return joined.filter(user_id=user_id).sort("position")["item_id"].to_list()


def test_each_reason_is_counted(table_config) -> None:
    log = HEAD + (
        "a,i1,5,1\na,i2,4,2\n"  # the only user with enough rows
        ",i1,5,1\n"
        '" ",i1,5,1\n'
        "a,,5,1\n"
        "a,i3,,3\na,i3,nan,3\na,i3,inf,3\na,i3,1e300,3\n"
        "a,i4,3,\n"
        "a,i99,3,4\n"
        "a,i1,5,1\n"
        "b,i1,5,1\n"
    )
    items = "item_id,title\ni1,One\ni2,\ni3,Three\ni4,Four\n,Nobody\n"
    data = load_dataset(table_config(log, items, RATED))
    assert data.dropped == {
        "missing user id": 2,
        "missing item id": 1,
        "missing rating": 1,
        "non-finite rating": 3,
        "missing timestamp": 1,
        "item not in catalogue": 1,
        "duplicate row": 1,
        "user with too little history": 1,
        "catalogue row without an item id": 1,
        "item without a title (kept)": 1,
    }
    assert data.interactions.rows() == [(0, 0, 5, 0), (0, 1, 4, 1)]
    assert data.items["title"].to_list() == ["One", "item i2", "Three", "Four"]


def test_types_are_as_documented(table_config) -> None:
    data = load_dataset(table_config("user_id,item_id\na,i1\na,i2\n"))
    assert data.interactions.schema == {
        "user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "position": pl.Int32,
    }  # fmt: skip
    assert data.interactions["rating"].null_count() == 2
    assert data.items.schema == {
        "item": pl.Int32, "item_id": pl.String, "title": pl.String, "details": pl.String,
    }  # fmt: skip
    assert data.users.schema == {"user": pl.Int32, "user_id": pl.String, "profile": pl.String}
    assert data.name == "log"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (HEAD + "a,i1,5,1\na,i2,good,2\n", r"log\.csv, row 3, column 'rating', value 'good'"),
        (HEAD + "a,i1,5,1\na,i2,4,soon\n", r"row 3, column 'timestamp', value 'soon'"),
        (HEAD + "a,i1,5,2024-01-31\na,i2,4,2024-02-31\n", "row 3.*'2024-02-31'"),
        (HEAD + "a,i1,5,2024-01-31\na,i2,4,17\n", "an ISO date.*row 3"),
        (HEAD + "a,i1,5,inf\n", "a finite number.*row 2"),
        (HEAD, "an empty table"),
        ("", "an empty table"),
        ("user,item_id,score,timestamp\na,i1,5,1\n", "'user', 'item_id', 'score', 'timestamp'"),
        ("user,item_id,score,timestamp\na,i1,5,1\n", "data.columns.user: 'user' is the nearest"),
        (HEAD + "a,i1,5,1,7,8\n", r"log\.csv: row 2: 6 fields, the header has 4"),
        (HEAD + 'a,i1,5,1\n"a\nb",5" nail,5,1\n', "row 3: a quote within a field.*'5\" nail'"),
        (HEAD + 'a,i1,5,1\na,"i2,4,2\n', r"log\.csv: row 3: unexpected end of data"),
        (HEAD.replace(",", ";") + "a;i1;5;1\n", "seem to be separated by ';'"),
        ('{"user_id": "a", "item_id": "i1"}\n', r"log\.csv: JSON"),
        (HEAD + "a,i1,5,1\n", "at least one user with 2 usable .*user with too little history: 1"),
        (HEAD + "a,1,5,1\na,2,5,1\n", "none among 2 rows.*look like '1' in the log and 'i0'"),
    ],
)
def test_bad_logs(table_config, log: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(table_config(log, columns=RATED))


@pytest.mark.parametrize("value", ["1e300", "12345678901234567890"])
def test_position_beyond_64_bits(table_config, value: str) -> None:
    log = f"user_id,item_id,when\na,i1,0\na,i2,{value}\n"
    with pytest.raises(DataError, match=rf"below 2\^63.*row 3, column 'when', value '{value}'"):
        load_dataset(table_config(log, columns={"position": "when"}))


@pytest.mark.parametrize(
    ("beginning", "what"),
    [(b"PK\x03\x04", "a spreadsheet"), (b"PAR1", "a Parquet file"), (b"\xff\xfeu\x00", "UTF-16")],
)
def test_other_formats_by_the_name_of_csv(
    tmp_path: Path, table_config, beginning: bytes, what: str
) -> None:
    config = table_config("user_id,item_id\na,i1\n")
    (tmp_path / "log.csv").write_bytes(beginning + b"\x00" * 20)
    with pytest.raises(DataError, match=rf"log\.csv: .*{what}"):
        load_dataset(config)


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path, table_config) -> None:
    config = table_config("user_id,item_id\na,i1\n")
    (tmp_path / "log.csv").write_bytes(b"user_id,item_id\na,i1\nJos\xe9,i1\n")
    with pytest.raises(DataError, match=r"log\.csv: line 3: not UTF-8, 'José,i1' in Latin-1"):
        load_dataset(config)


def test_bad_position(table_config) -> None:
    config = table_config("user_id,item_id,when\na,i1,0\na,i2,1.5\n", columns={"position": "when"})
    with pytest.raises(DataError, match=r"row 3, column 'when', value '1\.5'"):
        load_dataset(config)


def test_duplicate_catalogue_ids(table_config) -> None:
    config = table_config("user_id,item_id\na,x\n", "item_id,title\nx,A\ny,B\nx,C\n")
    message = r"items\.csv, row 4, column 'item_id', value 'x', already in row 2"
    with pytest.raises(DataError, match=message):
        load_dataset(config)


def test_missing_file(tmp_path: Path, table_config) -> None:
    config = table_config("user_id,item_id\na,i1\n")
    (tmp_path / "items.csv").unlink()
    with pytest.raises(DataError, match=r"a file at .*items\.csv; found nothing there"):
        load_dataset(config)


def test_text_in_another_encoding(tmp_path: Path, table_config) -> None:
    config = table_config("user_id,item_id\na,i1\n")
    (tmp_path / "log.csv").write_bytes("user_id,item_id\ncafé,i1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a readable CSV \(UTF-8.*log\.csv"):
        load_dataset(config)


STRANGE_IDS = ['say "hi"', "two\nlines", "🎬", "<b>&amp;</b>", "007", "a,b", " padded ", "NaN", "é"]


def test_strange_ids_survive(table_config) -> None:
    log = pl.DataFrame(
        [(user, item) for user in STRANGE_IDS for item in STRANGE_IDS],
        schema=["user_id", "item_id"],
        orient="row",
    )
    items = pl.DataFrame({"item_id": STRANGE_IDS, "title": STRANGE_IDS})
    data = load_dataset(table_config(log.write_csv(), items.write_csv()))
    assert data.users["user_id"].to_list() == sorted(STRANGE_IDS)
    assert data.items["item_id"].to_list() == data.items["title"].to_list() == sorted(STRANGE_IDS)
    assert data.dropped == {"interaction of a user called 'NaN' (kept)": len(STRANGE_IDS)}
    for user in STRANGE_IDS:
        assert item_ids(data, user) == STRANGE_IDS


def test_byte_order_mark_crlf_and_tabs(tmp_path: Path) -> None:
    """As spreadsheets save them."""
    log, items = tmp_path / "log.csv", tmp_path / "items.tsv"
    log.write_bytes("\ufeffuser_id,item_id\r\na,i1\r\na,i2\r\n".encode())
    items.write_bytes("\ufeffitem_id\ttitle\r\ni1\tOne, two\r\ni2\tThree\r\n".encode())
    files = {"source": "table", "interactions": str(log), "items": str(items)}
    lists = {"chunk_size": 1, "min_history": 1}
    data = load_dataset(parse_config({"data": files, "lists": lists}))
    assert data.items["title"].to_list() == ["One, two", "Three"]
    assert item_ids(data, "a") == ["i1", "i2"]


def test_very_long_title(table_config) -> None:
    title = 'x"\n' * 33_333 + "y"
    items = pl.DataFrame({"item_id": ["i1", "i2"], "title": [title, "short"]})
    data = load_dataset(table_config("user_id,item_id\na,i1\na,i2\n", items.write_csv()))
    assert data.items["title"][0] == title


def test_long_cells_are_cut_in_errors(table_config) -> None:
    config = table_config(HEAD + f"a,i1,{'z' * 5000},1\n", columns=RATED)
    with pytest.raises(DataError) as caught:
        load_dataset(config)
    assert len(str(caught.value)) < 500


def test_integer_ids_from_parquet(table_config) -> None:
    """Pandas turns a column of integers with a gap into floats: 10.0 is still item 10."""
    log = pl.DataFrame({"user_id": [2, 2, 10, 10, 2], "item_id": [9.0, 10.0, 10.0, 9.0, None]})
    items = pl.DataFrame({"item_id": [10, 9], "title": ["Ten", "Nine"]})
    data = load_dataset(table_config(log, items))
    assert data.users["user_id"].to_list() == ["2", "10"]  # by value, not as text
    assert data.items["item_id"].to_list() == ["9", "10"]
    assert data.dropped == {"missing item id": 1}
    assert item_ids(data, "10") == ["10", "9"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"user_id": [1.5, 2.0]}, "row 1, column 'user_id', value '1.5'"),
        ({"user_id": [[1], [2]]}, "column 'user_id'.*found type List"),
        ({"rating": [dt.date(2024, 1, 1)] * 2}, "numbers in column 'rating'.*found type Date"),
        ({"user_id": [1.0, 1e300]}, r"below 2\^63.*row 2, column 'user_id'"),
    ],
)
def test_unusable_types_in_parquet(table_config, column, message: str) -> None:
    log = pl.DataFrame({"user_id": ["a", "a"], "item_id": ["i1", "i2"], "rating": [1, 2], **column})
    with pytest.raises(DataError, match=message):
        load_dataset(table_config(log, columns={"rating": "rating"}))


def test_decimal_ids_of_any_length_sort_by_value(table_config) -> None:
    ids = ["2", "10", "007", "7", "123456789012345678901234567890", "0"]
    log = "user_id,item_id\n" + "".join(f"{user},i1\n{user},i2\n" for user in ids)
    data = load_dataset(table_config(log))
    assert data.users["user_id"].to_list() == sorted(ids, key=lambda name: (int(name), name))


@pytest.mark.parametrize(
    "times",
    [
        ["3", "1", "2"],
        ["3.5", "1", "2.25"],
        ["1700000000000000003", "1700000000000000001", "1700000000000000002"],
        ["2024-03-01", "2023-12-31", "2024-02-29"],
        ["2024-01-01T10:00:00.5", "2024-01-01", "2024-01-01 10:00"],
        ["2024-01-01T10:00:00Z", "2024-01-01T10:00:00+02:00", "2024-01-01 09:00:00"],
        ["2024-01-01 10:00:00 UTC", "2024-01-01 10:00:00 +0200", "2024-01-01T09:59:59.999Z"],
        ["2024-01-01 10:00:00+00", "2024-01-01 10:00:00+02", "2024-01-01 09:59:59.5+00"],
    ],
)
def test_orders_by_time(table_config, times: list[str]) -> None:
    rows = zip(("i1", "i2", "i3"), times, strict=True)
    log = "user_id,item_id,timestamp\n" + "".join(f"a,{item},{time}\n" for item, time in rows)
    data = load_dataset(table_config(log, columns={"timestamp": "timestamp"}))
    assert item_ids(data, "a") == ["i2", "i3", "i1"]


def test_orders_by_datetime_column(table_config) -> None:
    times = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in (3, 1, 2)]
    log = pl.DataFrame({"user_id": ["a"] * 3, "item_id": ["i1", "i2", "i3"], "timestamp": times})
    data = load_dataset(table_config(log, columns={"timestamp": "timestamp"}))
    assert item_ids(data, "a") == ["i2", "i3", "i1"]


def test_orders_by_position_else_by_the_file(table_config) -> None:
    log = "user_id,item_id,n\na,i3,10\na,i1,9\nb,i1,0\nb,i2,1\na,i2,100\n"
    by_position = load_dataset(table_config(log, columns={"position": "n"}))
    assert item_ids(by_position, "a") == ["i1", "i3", "i2"]
    by_file = load_dataset(table_config(log))
    assert item_ids(by_file, "a") == ["i3", "i1", "i2"]


@pytest.mark.parametrize("column", ["position", "timestamp"])
def test_long_numbers_keep_their_order(table_config, column: str) -> None:
    """Neighbours above 2^53 are one and the same float."""
    log = f"user_id,item_id,{column}\na,i3,9007199254740993\na,i2,9007199254740992\na,i1, \n"
    data = load_dataset(table_config(log, columns={column: column}))
    assert item_ids(data, "a") == ["i2", "i3"]
    assert data.dropped == {f"missing {column}": 1}


def test_missing_dates_as_pandas_writes_them(table_config) -> None:
    log = "user_id,item_id,when\na,i1,NaN\na,i2,2024-01-02\na,i3,2024-01-01\n"
    data = load_dataset(table_config(log, columns={"timestamp": "when"}))
    assert item_ids(data, "a") == ["i3", "i2"]


def test_ids_as_sql_exports_them(table_config) -> None:
    ids = pl.Series([1, 2, 3], dtype=pl.Decimal(20, 0))
    log = pl.DataFrame({"user_id": ["a"] * 3, "item_id": ids})
    data = load_dataset(table_config(log, items="item_id,title\n1,A\n2,B\n3,C\n4,D\n5,E\n"))
    assert item_ids(data, "a") == ["1", "2", "3"]


def test_ties_keep_the_order_of_the_log(table_config) -> None:
    items = [f"i{n}" for n in range(20)]
    random.Random(0).shuffle(items)
    rows = "".join(f"{user},{item},3,5\n" for item in items for user in "ab")
    data = load_dataset(table_config(HEAD + rows, columns=RATED))
    assert item_ids(data, "a") == item_ids(data, "b") == items


def test_order_of_rows_does_not_matter(table_config) -> None:
    rows = [f"u{user},i{(user * 7 + t) % 20},3,{t}\n" for user in range(30) for t in range(4)]
    first = load_dataset(table_config(HEAD + "".join(rows), columns=RATED, max_users=7))
    random.Random(1).shuffle(rows)
    second = load_dataset(table_config(HEAD + "".join(rows), columns=RATED, max_users=7))
    assert first.interactions.equals(second.interactions)
    assert first.users.equals(second.users)
    assert first.n_users == 7
    assert first.dropped == {"user not in the sample (data.max_users)": 23}


def test_another_seed_samples_other_users(table_config) -> None:
    log = "user_id,item_id\n" + "".join(f"u{n},i1\nu{n},i2\n" for n in range(50))
    config: Config = table_config(log, max_users=10)
    other = config.model_copy(update={"seed": 1})
    first, second = (set(load_dataset(c).users["user_id"]) for c in (config, other))
    assert first != second


def test_user_profiles_and_item_details(table_config, tmp_path: Path) -> None:
    users = tmp_path / "people.csv"
    users.write_text('user_id,age,town\na,30,"Old\n Town"\nz,1,Nowhere\n')
    data = load_dataset(
        table_config(
            "user_id,item_id\na,i1\na,i2\nb,i1\nb,i2\n",
            pl.DataFrame(
                {
                    "item_id": ["i1", "i2"],
                    "title": ["One", "Two"],
                    "brand": ["Acme", None],
                    "tags": [["x", "y"], []],
                }
            ),
            columns={"details": ["brand", "tags"], "profile": ["age", "town"]},
            users=str(users),
        )
    )
    assert data.users.rows() == [(0, "a", "30; Old Town"), (1, "b", "")]
    assert data.dropped["user not in the users file (kept)"] == 1
    assert data.items["details"].to_list() == ["Acme; x, y", ""]


def test_a_number_that_is_missing_is_no_detail(table_config) -> None:
    items = pl.DataFrame({"item_id": ["i1", "i2"], "title": "A", "price": [float("nan"), 2.5]})
    log = "user_id,item_id\na,i1\na,i2\n"
    data = load_dataset(table_config(log, items, columns={"details": ["price"]}))
    assert data.items["details"].to_list() == ["", "2.5"]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    say_once.cache_clear()
    return caplog


def test_a_log_that_loses_much_of_itself_says_so(
    table_config, said: pytest.LogCaptureFixture
) -> None:
    """Leading zeros are gone from one of the ten rows, then from one of fifty."""
    items = "item_id,title\n" + "".join(f"0{n},T\n" for n in range(1, 6))
    rows = "".join(f"a,0{1 + n % 5},{n}\n" for n in range(9))
    columns = {"position": "n"}
    load_dataset(table_config("user_id,item_id,n\na,7,0\n" + rows, items, columns))
    assert "1 of 10 rows of " in said.text
    assert "(item not in catalogue: 1); item ids look like '7' in the log and '01'" in said.text
    said.clear()
    rows = "".join(f"a,0{1 + n % 5},{n}\n" for n in range(49))
    load_dataset(table_config("user_id,item_id,n\na,7,0\n" + rows, items, columns))
    assert not said.text


@pytest.mark.parametrize("write", [str, lambda log: pl.read_csv(log.encode())])
def test_times_of_two_units_are_refused(table_config, write) -> None:
    log = "user_id,item_id,time\na,i1,1700000000\na,i2,1700000001\na,i3,1700000002000\n"
    config = table_config(write(log), columns={"timestamp": "time"})
    with pytest.raises(DataError, match=r"one unit.*'1700000000' and .*'1700000002000'"):
        load_dataset(config)


def test_dates_of_the_first_weeks_of_1970_are_dates(table_config) -> None:
    log = "user_id,item_id,time\na,i1,2024-01-01\na,i2,1970-01-20\n"
    data = load_dataset(table_config(log, columns={"timestamp": "time"}))
    assert item_ids(data, "a") == ["i2", "i1"]


@pytest.mark.parametrize(
    ("people", "user", "message"),
    [
        ("user_id\na\na\n", "a", r"people\.csv, row 3"),
        ("user_id,age\nu1,30\n", "1", r"none of them; .* \['1'\] in the log and \['u1'\] there"),
    ],
)
def test_a_users_file_that_says_a_user_twice_or_none_of_them(
    table_config, tmp_path: Path, people: str, user: str, message: str
) -> None:
    users = tmp_path / "people.csv"
    users.write_text(people)
    config = table_config(f"user_id,item_id\n{user},i1\n{user},i2\n", users=str(users))
    with pytest.raises(DataError, match=message):
        load_dataset(config)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(("min_history", "max_reading"), [(1, 1), (1, 3), (1, 30), (3, 3), (3, 30)])
def test_needed_interactions(min_history: int, max_reading: int, partial: bool) -> None:
    """Against the definition: read min(ceil(n/2), max_reading), the rest is feedback."""
    lists = parse_config(
        {
            "lists": {
                "min_history": min_history,
                "max_reading": max_reading,
                "partial_chunk": partial,
            }
        }
    ).lists
    for n in range(40):
        read = min((n + 1) // 2, max_reading)
        chunks = n - read >= (1 if partial else lists.chunk_size)
        assert (n >= needed_interactions(lists)) == (read >= min_history and chunks)


def test_user_with_just_enough(table_config) -> None:
    log = "user_id,item_id\n" + "".join(f"a,i{n}\n" for n in range(4))
    lists = {"chunk_size": 2, "min_history": 2}
    config = table_config(log, lists=lists)
    assert reading_histories(load_dataset(config), config.lists).lengths.tolist() == [2]
    with pytest.raises(DataError, match="too little history"):
        load_dataset(table_config(log, lists={**lists, "min_history": 3}))


CORE = "user_id,item_id\na,i0\na,i1\nb,i0\nb,i1\nc,i1\nc,i2\nd,i2\n"


def test_core_is_filtered_until_nothing_changes(table_config) -> None:
    """d has one interaction and goes; then i2 has one and goes; then c has one and goes."""
    config = table_config(CORE, min_user_interactions=2, min_item_interactions=2)
    data = load_dataset(config)
    assert data.users["user_id"].to_list() == ["a", "b"]
    assert data.items.select("item", "item_id").rows() == [(0, "i0"), (1, "i1")]
    assert data.interactions.select("user", "item").rows() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert list(data.dropped.values()) == [3, 18]


def test_core_of_users_alone(table_config) -> None:
    data = load_dataset(table_config(CORE, min_user_interactions=2))
    assert data.users["user_id"].to_list() == ["a", "b", "c"]
    assert data.items["item_id"].to_list() == ["i0", "i1", "i2"]


def test_core_is_off_by_default(table_config) -> None:
    assert load_dataset(table_config(CORE)).n_items == 20


def test_empty_core(table_config) -> None:
    with pytest.raises(DataError, match=r"outside the core .*: 7"):
        load_dataset(table_config(CORE, min_item_interactions=4))


def test_first_of_repeats_in_time(table_config) -> None:
    """a's i1 at time 1 stays, though a later one stands first in the file; b's is b's own."""
    log = "user_id,item_id,t\na,i1,9\na,i0,5\na,i1,1\na,i1,9\nb,i1,9\nb,i0,9\n"
    columns = {"timestamp": "t"}
    data = load_dataset(table_config(log, columns=columns, repeats="first"))
    assert data.interactions.select("user", "item").rows() == [(0, 1), (0, 0), (1, 1), (1, 0)]
    assert data.dropped == {
        "duplicate row": 1,
        "later interaction with the same item (data.repeats)": 1,
    }
    kept = load_dataset(table_config(log, columns=columns))
    assert kept.interactions["item"].to_list() == [1, 0, 1, 1, 0]


def test_first_of_repeats_without_times_is_the_first_in_the_file(table_config) -> None:
    log = "user_id,item_id,rating\na,i1,2\na,i0,3\na,i1,5\n"
    data = load_dataset(table_config(log, columns={"rating": "rating"}, repeats="first"))
    assert data.interactions.select("item", "rating").rows() == [(1, 2.0), (0, 3.0)]
