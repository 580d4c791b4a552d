//! Parquet files made byte by byte, to be wrong in any way: for `damage.rs`, and for what is fuzzed.

/// A value of Thrift's compact protocol.
#[derive(Clone)]
pub enum V {
    Int(i64),
    Text(&'static str),
    Ints(Vec<i64>),
    Texts(Vec<&'static str>),
    Structs(Vec<Fields>),
    Struct(Fields),
    /// Type and bytes as they are.
    Raw(u8, Vec<u8>),
}

pub type Fields = Vec<(i16, V)>;

pub fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n > 127 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

pub fn zigzag(out: &mut Vec<u8>, n: i64) {
    varint(out, (n << 1 ^ n >> 63) as u64);
}

pub fn list(out: &mut Vec<u8>, count: usize, kind: u8) {
    out.push(0xf0 | kind);
    varint(out, count as u64);
}

pub fn thrift(out: &mut Vec<u8>, fields: &[(i16, V)]) {
    for (id, value) in fields {
        out.push(match value {
            V::Int(_) => 5,
            V::Text(_) => 8,
            V::Ints(_) | V::Texts(_) | V::Structs(_) => 9,
            V::Struct(_) => 12,
            V::Raw(kind, _) => *kind,
        });
        zigzag(out, (*id).into());
        let text = |out: &mut Vec<u8>, text: &str| {
            varint(out, text.len() as u64);
            out.extend(text.as_bytes());
        };
        match value {
            V::Int(n) => zigzag(out, *n),
            V::Text(one) => text(out, one),
            V::Ints(all) => {
                list(out, all.len(), 5);
                all.iter().for_each(|&n| zigzag(out, n));
            }
            V::Texts(all) => {
                list(out, all.len(), 8);
                all.iter().for_each(|one| text(out, one));
            }
            V::Structs(all) => {
                list(out, all.len(), 12);
                all.iter().for_each(|one| thrift(out, one));
            }
            V::Struct(one) => thrift(out, one),
            V::Raw(_, bytes) => out.extend(bytes),
        }
    }
    out.push(0);
}

/// A file of one float column `x` in one row group: its pages, and a footer to be made worse.
pub struct File {
    pub pages: Vec<u8>,
    pub rows: i64,
    pub schema: Vec<Fields>,
    pub chunk: Fields,
    pub column: Fields,
    pub footer: Fields,
    pub groups: usize,
    /// Between the pages and the footer: an offset index.
    pub index: Vec<u8>,
}

impl File {
    pub fn new(pages: Vec<u8>, rows: i64, values: i64) -> File {
        let size = pages.len() as i64;
        File {
            rows,
            schema: vec![
                vec![(4, V::Text("schema")), (5, V::Int(1))],
                vec![(1, V::Int(4)), (3, V::Int(0)), (4, V::Text("x"))],
            ],
            chunk: vec![(2, V::Int(4))],
            column: vec![
                (1, V::Int(4)),
                (2, V::Ints(vec![0, 3, 8])),
                (3, V::Texts(vec!["x"])),
                (4, V::Int(0)),
                (5, V::Int(values)),
                (6, V::Int(size)),
                (7, V::Int(size)),
                (9, V::Int(4)),
            ],
            footer: Vec::new(),
            groups: 1,
            index: Vec::new(),
            pages,
        }
    }

    /// The whole of a page of `rows` floats.
    pub fn plain(rows: i64) -> File {
        let mut pages = page(4 * rows, 4 * rows, (5, v1(rows, 0)));
        pages.extend((0..rows).flat_map(|i| ((i * i % 83) as f32).to_le_bytes()));
        File::new(pages, rows, rows)
    }

    /// Says where its data pages lie: bytes of the file, and the first row.
    pub fn indexed(mut self, pages: &[(i64, i64, i64)]) -> File {
        let page = |&(at, length, row)| vec![(1, V::Int(at)), (2, V::Int(length)), (3, V::Int(row))];
        thrift(&mut self.index, &[(1, V::Structs(pages.iter().map(page).collect()))]);
        set(&mut self.chunk, 4, V::Int(4 + self.pages.len() as i64));
        set(&mut self.chunk, 5, V::Int(self.index.len() as i64));
        self
    }

    /// Its column is a list of floats, of any length.
    pub fn list(pages: Vec<u8>, rows: i64, values: i64) -> File {
        let mut file = File::new(pages, rows, values);
        file.schema = vec![
            vec![(4, V::Text("schema")), (5, V::Int(1))],
            vec![(3, V::Int(1)), (4, V::Text("x")), (5, V::Int(1)), (6, V::Int(3))],
            vec![(3, V::Int(2)), (4, V::Text("list")), (5, V::Int(1))],
            vec![(1, V::Int(4)), (3, V::Int(1)), (4, V::Text("element"))],
        ];
        set(&mut file.column, 3, V::Texts(vec!["x", "list", "element"]));
        file
    }

    pub fn column(mut self, id: i16, value: V) -> File {
        set(&mut self.column, id, value);
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        let mut chunk = self.chunk;
        set(&mut chunk, 3, V::Struct(self.column));
        let group = vec![(1, V::Structs(vec![chunk])), (2, V::Int(100)), (3, V::Int(self.rows))];
        let mut footer = vec![
            (1, V::Int(2)),
            (2, V::Structs(self.schema)),
            (3, V::Int(self.rows.wrapping_mul(self.groups as i64))),
            (4, V::Structs(vec![group; self.groups])),
        ];
        self.footer.into_iter().for_each(|(id, value)| set(&mut footer, id, value));
        let mut out = b"PAR1".to_vec();
        out.extend(self.pages);
        out.extend(self.index);
        let start = out.len();
        thrift(&mut out, &footer);
        out.extend(((out.len() - start) as u32).to_le_bytes());
        out.extend(b"PAR1");
        out
    }
}

pub fn set(fields: &mut Fields, id: i16, value: V) {
    fields.retain(|(other, _)| *other != id);
    fields.push((id, value));
}

/// The header of a page of these sizes (uncompressed, stored).
pub fn page(full: i64, stored: i64, (field, kind): (i16, Fields)) -> Vec<u8> {
    let number = match field {
        5 => 0,
        7 => 2,
        _ => 3,
    };
    let mut out = Vec::new();
    thrift(
        &mut out,
        &[(1, V::Int(number)), (2, V::Int(full)), (3, V::Int(stored)), (field, V::Struct(kind))],
    );
    out
}

pub fn v1(values: i64, encoding: i64) -> Fields {
    vec![(1, V::Int(values)), (2, V::Int(encoding)), (3, V::Int(3)), (4, V::Int(3))]
}

pub fn v2(values: i64, rows: i64, definition: i64, repetition: i64) -> Fields {
    let numbers = [values, 0, rows, 0, definition, repetition];
    (1..).zip(numbers).map(|(id, n)| (id, V::Int(n))).collect()
}

/// A run of the hybrid encoding.
pub fn run_of(count: u64, value: u8) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, count << 1);
    out.push(value);
    out
}

/// Levels as they stand in a page of version 1.
pub fn levels(runs: &[Vec<u8>]) -> Vec<u8> {
    let all = runs.concat();
    [&(all.len() as u32).to_le_bytes()[..], &all].concat()
}

/// A file of one column `x` whose pages are all but the first eight bytes, which choose its type, what is in what, its codec,
/// whether it has a dictionary, its rows and values.
pub fn column(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[physical, nesting, codec, dictionary, r0, r1, v0, v1], pages) = bytes.split_first_chunk::<8>()?;
    let (rows, values) = (i64::from(u16::from_le_bytes([r0, r1])), i64::from(u16::from_le_bytes([v0, v1])));
    let mut leaf = vec![(1, V::Int(i64::from(physical % 8))), (4, V::Text("element"))];
    match physical {
        // Text, unless it is to be bytes.
        6 => leaf.push((6, V::Int(0))),
        7 | 15 => leaf.push((2, V::Int(8))),
        _ => {}
    }
    let root = vec![(4, V::Text("schema")), (5, V::Int(1))];
    let schema = match nesting % 3 {
        2 => {
            leaf.push((3, V::Int(1)));
            let outer = vec![(3, V::Int(1)), (4, V::Text("x")), (5, V::Int(1)), (6, V::Int(3))];
            vec![root, outer, vec![(3, V::Int(2)), (4, V::Text("list")), (5, V::Int(1))], leaf]
        }
        optional => {
            leaf.push((3, V::Int(optional.into())));
            vec![root, leaf]
        }
    };
    let values = if nesting % 3 == 2 { values.max(rows) } else { rows };
    let mut file = File { schema, ..File::new(pages.to_vec(), rows, values) }
        .column(1, V::Int(i64::from(physical % 8)))
        .column(4, V::Int(i64::from(codec % 8)))
        .column(6, V::Int(1 << 30));
    if dictionary % 2 == 1 {
        file = file.column(11, V::Int(4));
    }
    Some(file.bytes())
}
