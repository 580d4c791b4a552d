//! Damaged and hostile Parquet files: an error that names the file, soon and in little memory; never a panic, never a hang,
//! never rows that the file does not have.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use assert_cmd::Command;
use parquet::arrow::ArrowWriter;

use crate::craft::*;

/// A whole data page of version 1 with these floats, and its checksum.
fn floats(numbers: std::ops::Range<i64>) -> Vec<u8> {
    let body: Vec<u8> = numbers.clone().flat_map(|i| ((i * i % 83) as f32).to_le_bytes()).collect();
    let size = body.len() as i64;
    let mut out = Vec::new();
    let count = numbers.end - numbers.start;
    let checksum = i64::from(crc32fast::hash(&body) as i32);
    let header = [(1, V::Int(0)), (2, V::Int(size)), (3, V::Int(size)), (4, V::Int(checksum))];
    thrift(&mut out, &[&header[..], &[(5, V::Struct(v1(count, 0)))]].concat());
    out.extend(body);
    out
}

/// Runs `modalities` on the file; its exit code and what it says.
fn run(path: &Path) -> (i32, String) {
    run_with(path, &[])
}

fn run_with(path: &Path, flags: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_batchwright"))
        .args(["modalities", "-q", path.to_str().unwrap()])
        .args(flags)
        .timeout(std::time::Duration::from_secs(20))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap_or(-1), said)
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], reason: &str) {
    refused_with(name, bytes, reason, &[]);
}

#[track_caller]
fn refused_with(name: &str, bytes: &[u8], reason: &str, flags: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.parquet");
    fs::write(&path, bytes).unwrap();
    let (code, said) = run_with(&path, flags);
    assert_eq!(code, 3, "{name}: {said}");
    assert!(said.contains("bad.parquet") && said.contains(reason), "{name}: {said}");
    assert!(!said.contains("panicked"), "{name}: {said}");
}

#[test]
fn the_crafted_file_is_read_as_it_should_be() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.parquet"), File::plain(100).bytes()).unwrap();
    let (code, said) = run(&dir.path().join("a.parquet"));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn footers_that_promise_what_is_not_there_are_refused() {
    let plain = || File::plain(100);
    for (id, value, reason) in [
        (9, -5, "bytes from byte -5 on"),
        (9, 0, "from byte 0 on"),
        (9, 1 << 40, "which are not all in the file"),
        (7, -1, "takes -1 bytes"),
        (7, i64::MAX, "which are not all in the file"),
        (11, i64::MIN, "which are not all in the file"),
        (11, 3, "which are not all in the file"),
        (6, -1, "it is -1 bytes long"),
        (5, 99, "99 values in 100 rows"),
        (5, 101, "101 values in 100 rows"),
        (4, 8, "codec 8"),
        (4, -1, "codec -1"),
        (1, 5, "type 5 where the schema has 4"),
        (14, 1 << 50, "which are not all in the file"),
    ] {
        let bytes = plain().column(id, V::Int(value)).bytes();
        refused(&format!("field {id}: {value}"), &bytes, reason);
    }
    for (id, value) in [(4, -1), (4, 1 << 33), (6, -9)] {
        let mut file = plain();
        file.chunk.extend([(id, V::Int(value)), (id + 1, V::Int(9))]);
        refused("index", &file.bytes(), "which are not all in the file");
    }
    let mut file = plain();
    (file.rows, file.groups) = (1 << 62, 5);
    refused("rows beyond counting", &file.bytes(), "values in 4611686018427387904 rows");
    let mut file = plain();
    file.rows = -1;
    refused("negative rows", &file.bytes(), "-1 rows");
    let mut file = plain();
    file.footer.push((3, V::Int(99)));
    refused("sum of rows", &file.bytes(), "it has 99 rows, and its row groups have 100");
    let mut file = plain();
    file.chunk.push((1, V::Text("other.parquet")));
    refused("another file", &file.bytes(), "lies in another file");
    let mut file = plain();
    file.chunk.push((9, V::Text("secret")));
    file.column.clear();
    refused("half a column", &file.bytes(), "description is not whole");
}

#[test]
fn schemas_that_are_no_tree_are_refused() {
    let with = |schema: Vec<Fields>| File { schema, ..File::plain(100) }.bytes();
    let root = |children: i64| vec![(4, V::Text("schema")), (5, V::Int(children))];
    let leaf = || vec![(1, V::Int(4)), (3, V::Int(0)), (4, V::Text("x"))];
    let group = |children: i64| vec![(3, V::Int(0)), (4, V::Text("g")), (5, V::Int(children))];
    refused("none", &with(vec![]), "columns");
    refused("too few", &with(vec![root(2), leaf()]), "2 columns in it where 1 follow");
    refused("too many", &with(vec![root(1), leaf(), leaf()]), "in no group");
    refused("negative", &with(vec![root(-1), leaf()]), "-1 columns in it");
    refused("huge", &with(vec![root(1), group(i64::from(i32::MAX)), leaf()]), "columns in it where 1 follow");
    let mut deep = vec![root(1)];
    deep.extend((0..5000).map(|_| group(1)));
    deep.push(leaf());
    refused("deep", &with(deep), "more than 64 groups");
    let typed = |id, value| {
        let mut leaf = leaf();
        set(&mut leaf, id, V::Int(value));
        with(vec![root(1), leaf])
    };
    refused("type", &typed(1, 9), "type 9, which is not known");
    refused("bytes without length", &typed(1, 7), "no length");
    refused("repetition", &typed(3, 7), "optional or repeated");
}

#[test]
fn counts_in_footers_are_not_believed() {
    // Ten lists of 2^31 - 1 truth values each, which take no byte in some libraries, in a field that nobody knows.
    let endless = [0xf1, 255, 255, 255, 255, 7].repeat(10);
    for (kind, bytes) in [
        (9, [&[0xa9][..], &endless].concat()),
        (9, vec![0xfc, 255, 255, 255, 255, 7]),
        (8, vec![255, 255, 255, 255, 15, 1]),
        (11, vec![255, 255, 255, 255, 7, 0x11]),
        (12, vec![0x1c; 9000]),
    ] {
        let mut file = File::plain(100);
        file.footer.push((100, V::Raw(kind, bytes)));
        refused("unknown field", &file.bytes(), "cut off or overwritten");
    }
    let mut file = File::plain(100);
    file.footer.push((4, V::Raw(9, vec![0xfc, 255, 255, 255, 255, 7])));
    refused("row groups", &file.bytes(), "cut off or overwritten");
    let mut bytes = File::plain(100).bytes();
    let at = bytes.len() - 8;
    bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused("length of the footer", &bytes, "a footer of 4294967295 bytes in a file of");
}

fn written(rows: u32) -> Vec<u8> {
    let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..rows).map(|i| f64::from(i * i % 71))));
    let batch = RecordBatch::try_from_iter([("x", x)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn what_a_file_is_instead_is_said() {
    let (a, b) = (written(300), written(300));
    refused("two files", &[&a[..], &b].concat(), "two Parquet files in one");
    refused("two files, the second shorter", &[&a[..], &written(100)].concat(), "two Parquet files in one");
    refused("junk", &[&a[..], b"\nhello\n"].concat(), "7 bytes after its footer");
    refused("cut", &a[..a.len() - 3], "is cut off: its footer is missing");
    refused("another kind", b"<html><body>404</body></html>", "is not a Parquet file");
    let at = a.len() - 4;
    refused("encrypted", &[&a[..at], b"PARE"].concat(), "is encrypted");
}

#[test]
fn pages_are_whole_and_where_they_should_be() {
    let (a, b) = (floats(0..60), floats(60..100));
    let (first, second) = (a.len() as i64, b.len() as i64);
    let both = || [&a[..], &b].concat();
    let whole = || File::new(both(), 100, 100);
    let listed = [(4, first, 0), (4 + first, second, 60)];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    for good in [whole(), whole().indexed(&listed)] {
        fs::write(&path, good.bytes()).unwrap();
        let (code, said) = run(&path);
        assert_eq!(code, 0, "{said}");
    }
    for (name, page, at) in [("first", 0, first - 1), ("second", 1, first + second - 20)] {
        let mut pages = both();
        pages[at as usize] ^= 0x10;
        let reason = format!("column `x`: is damaged: row group 0, page {page}: its checksum");
        refused(name, &File::new(pages, 100, 100).bytes(), &reason);
    }
    let file = |pages: Vec<Vec<u8>>, rows| File::new(pages.concat(), rows, rows);
    refused(
        "a gap",
        &file(vec![a.clone(), vec![0; 9], b.clone()], 100).bytes(),
        "damaged: row group 0, page 1",
    );
    refused("a gap at the end", &file(vec![a.clone(), b.clone(), vec![0; 9]], 100).bytes(), "page 2");
    refused("cut", &file(vec![a.clone(), b[..second as usize - 4].to_vec()], 100).bytes(), "page 1");
    let fewer = file(vec![a.clone(), b.clone()], 90).bytes();
    refused("rows too many", &fewer, "its pages hold 100 values, and its footer says 90");
    refused("rows too few", &file(vec![a.clone(), b.clone()], 110).bytes(), "110");
    let moved = |pages: &[(i64, i64, i64)]| whole().indexed(pages).bytes();
    // Equal pages in another order are other rows.
    // Headers are of the same length where their checksums are.
    let c = floats(0..50);
    let d = (1..).map(|k| floats(50 * k..50 * k + 50)).find(|d| d.len() == c.len() && *d != c).unwrap();
    let (n, m) = (c.len() as i64, d.len() as i64);
    assert_eq!(n, m);
    let swapped = file(vec![c, d], 100).indexed(&[(4 + n, m, 0), (4, n, 50)]).bytes();
    refused("swapped", &swapped, "its offset index is damaged");
    refused("one missing", &moved(&[(4, first, 0)]), "offset index");
    refused("another row", &moved(&[(4, first, 0), (4 + first, second, 50)]), "offset index");
    refused("another place", &moved(&[(4, first, 0), (5 + first, second - 1, 60)]), "offset index");
    refused("negative", &moved(&[(4, first, 0), (-4, second, 60)]), "its offset index is damaged");
    refused(
        "rows beyond",
        &moved(&[(4, first, 0), (4 + first, second, 1 << 62)]),
        "its offset index is damaged",
    );
}

#[test]
fn pages_that_promise_more_than_they_hold_are_refused() {
    let fewer = |kind: Fields, field: i16, body: Vec<u8>| {
        let size = body.len() as i64;
        [page(size, size, (field, kind)), body].concat()
    };
    // Flat: 100 values promised, 50 there.
    let half: Vec<u8> = (0..50).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let file = File::new(fewer(v1(100, 0), 5, half.clone()), 100, 100);
    refused("half the values", &file.bytes(), "fewer than its levels say");
    // Lists of one number: the levels promise 6000 values where 3000 are.
    let mut body = [run_of(6000, 0), run_of(6000, 3)].concat();
    body.extend((0..3000).flat_map(|i| (i as f32).to_le_bytes()));
    let file = File::list(fewer(v2(6000, 6000, 3, 3), 8, body.clone()), 6000, 6000);
    refused("half the values of lists", &file.bytes(), "fewer than its levels say");
    let file = File::list(fewer(v2(6000, 5000, 3, 3), 8, body), 5000, 6000);
    refused("rows", &file.bytes(), "it promises 5000 rows and has 6000");
    let short = [levels(&[run_of(10, 0)]), levels(&[run_of(90, 3)]), half.clone()].concat();
    let file = File::list(fewer(v1(100, 0), 5, short), 100, 100);
    refused("half the levels", &file.bytes(), "its levels do not cover");
    let inside = [levels(&[run_of(50, 1)]), levels(&[run_of(50, 3)]), half].concat();
    let file = File::list(fewer(v1(50, 0), 5, inside), 1, 50);
    refused("begins inside a row", &file.bytes(), "begins inside a row");
    // A dictionary of one entry, and places beyond it; of none, and a place in it.
    let places = |entries: i64, place: u8| {
        let dictionary = vec![0; 4 * entries as usize];
        let size = dictionary.len() as i64;
        let first = page(size, size, (7, vec![(1, V::Int(entries)), (2, V::Int(0))]));
        let body = [vec![8], run_of(100, place)].concat();
        File::new([first, dictionary, fewer(v1(100, 8), 5, body)].concat(), 100, 100).column(11, V::Int(4))
    };
    refused("beyond the dictionary", &places(1, 1).bytes(), "fewer than its levels say");
    refused("no dictionary", &places(0, 0).bytes(), "fewer than its levels say");
}

#[test]
fn pages_that_ask_for_too_much_memory_are_refused() {
    let dictionary = [page(4, 4, (7, vec![(1, V::Int(1)), (2, V::Int(0))])), vec![0, 0, 128, 63]].concat();
    let lists = |rows: i64, values: u64, repetition: &[Vec<u8>]| {
        let body = [levels(repetition), levels(&[run_of(values, 3)]), vec![0], run_of(values, 0)].concat();
        let size = body.len() as i64;
        let values = values as i64;
        let pages = [dictionary.clone(), page(size, size, (5, v1(values, 8))), body].concat();
        File::list(pages, rows, values).column(11, V::Int(4)).bytes()
    };
    let many = (1u64 << 31) - 1;
    refused(
        "2^31 - 1 rows",
        &lists(many as i64, many, &[run_of(many, 0)]),
        "MiB of memory, where 512 are allowed",
    );
    let one = lists(1, 1 << 28, &[run_of(1, 0), run_of((1 << 28) - 1, 1)]);
    refused("a row of 2^28", &one, "MiB of memory");
    let flat = [vec![0], run_of(many, 0)].concat();
    let size = flat.len() as i64;
    let pages = [dictionary.clone(), page(size, size, (5, v1(many as i64, 8))), flat].concat();
    let file = File::new(pages, many as i64, many as i64).column(11, V::Int(4));
    refused("2^31 - 1 flat rows", &file.bytes(), "MiB of memory");
    let mut file = File::plain(100).column(5, V::Int(1 << 62));
    file.rows = 1 << 62;
    refused("2^62 rows", &file.bytes(), "its pages hold 100 values, and its footer says");
    // 40 bytes that are 1 GiB without their compression, by their header.
    let pages =
        [page(1 << 30, 40, (5, v1(1 << 20, 0))), vec![0x28, 0xb5, 0x2f, 0xfd, 0x00], vec![0; 35]].concat();
    let file = File::new(pages, 1 << 20, 1 << 20).column(4, V::Int(6)).column(6, V::Int(1 << 30));
    refused("1 GiB of 40 bytes", &file.bytes(), "memory");
    // A page of texts, all of them the one of a mebibyte.
    let entry = [&(1u32 << 20).to_le_bytes()[..], &vec![b'a'; 1 << 20]].concat();
    let size = entry.len() as i64;
    let first = page(size, size, (7, vec![(1, V::Int(1)), (2, V::Int(0))]));
    let places = [vec![0], run_of(20_000, 0)].concat();
    let second = page(places.len() as i64, places.len() as i64, (5, v1(20_000, 8)));
    let pages = [first, entry, second, places].concat();
    let mut file = File::new(pages, 20_000, 20_000).column(11, V::Int(4)).column(1, V::Int(6));
    file.schema[1] = vec![(1, V::Int(6)), (3, V::Int(0)), (4, V::Text("x")), (6, V::Int(0))];
    refused_with("20 GB of text", &file.bytes(), "20000 MiB of memory", &["--features", "x"]);
}

#[test]
fn counts_in_page_headers_are_not_believed() {
    let endless = [&[0xa9][..], &[0xf1, 255, 255, 255, 255, 7].repeat(10)].concat();
    for (kind, bytes) in [(9, endless), (12, vec![0x1c; 4000]), (8, vec![255, 255, 255, 255, 15])] {
        let mut pages = Vec::new();
        let known = [(1, V::Int(0)), (2, V::Int(400)), (3, V::Int(400)), (5, V::Struct(v1(100, 0)))];
        thrift(&mut pages, &[&known[..], &[(100, V::Raw(kind, bytes))]].concat());
        pages.extend([0; 400]);
        refused("unknown field", &File::new(pages, 100, 100).bytes(), "its header is damaged");
    }
    for (id, value) in [(2, -1), (3, -1), (3, 1 << 40), (2, 1 << 40)] {
        let mut header = vec![(1, V::Int(0)), (2, V::Int(400)), (3, V::Int(400)), (5, V::Struct(v1(100, 0)))];
        set(&mut header, id, V::Int(value));
        let mut pages = Vec::new();
        thrift(&mut pages, &header);
        pages.extend([0; 400]);
        refused(&format!("field {id}: {value}"), &File::new(pages, 100, 100).bytes(), "page 0");
    }
}

#[test]
fn pages_in_hadoops_framing_of_lz4_are_read() {
    let body: Vec<u8> = (0..100).flat_map(|i| ((i * i % 83) as f32).to_le_bytes()).collect();
    let mut stored = Vec::new();
    for (full, blocks) in
        [(250, vec![&body[..100], &body[100..250]]), (150, vec![&body[250..251], &body[251..]])]
    {
        stored.extend(u32::to_be_bytes(full));
        for block in blocks {
            let packed = lz4_flex::block::compress(block);
            stored.extend((packed.len() as u32).to_be_bytes());
            stored.extend(packed);
        }
    }
    let pages = [page(400, stored.len() as i64, (5, v1(100, 0))), stored].concat();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    fs::write(&path, File::new(pages, 100, 100).column(4, V::Int(5)).bytes()).unwrap();
    let (code, said) = run(&path);
    assert_eq!(code, 0, "{said}");
    let plain = dir.path().join("b.parquet");
    fs::write(&plain, File::plain(100).bytes()).unwrap();
    let lines = |said: &str| -> Vec<String> {
        said.lines().filter(|line| !line.starts_with("time")).map(String::from).collect()
    };
    assert_eq!(lines(&said), lines(&run(&plain).1));
}

#[test]
fn what_is_not_read_is_named() {
    let plain = || File::plain(100);
    refused("LZO", &plain().column(4, V::Int(3)).bytes(), "compressed with LZO");
    let mut file = plain();
    file.chunk.push((8, V::Struct(vec![])));
    refused("encrypted", &file.bytes(), "column `x`: is encrypted");
    let mut file = plain();
    file.chunk.push((9, V::Text("secret")));
    refused("encrypted, and so its description", &file.bytes(), "is encrypted");
}
