//! The dendrogram of the strata as it stands in the metadata of `strata.arrow`.

/// One merge of a dendrogram. Leaves are nodes 0..S, merge i makes node S + i.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merge {
    /// The lower of the two nodes.
    pub left: u32,
    pub right: u32,
    /// Average distance between their leaves.
    pub height: f64,
    /// Leaves below.
    pub size: u32,
}

/// `[[left, right, height, size], ...]`; heights come back bit for bit.
pub fn to_json(dendrogram: &[Merge]) -> String {
    let row = |m: &Merge| format!("[{}, {}, {:?}, {}]", m.left, m.right, m.height, m.size);
    format!("[{}]", dendrogram.iter().map(row).collect::<Vec<_>>().join(", "))
}

/// Reads [`to_json`]. None unless it is a dendrogram of `strata` leaves, so that a tour of it
/// ([`tour`](crate::batches::strata::tour)) can trust it.
pub fn from_json(text: &str, strata: usize) -> Option<Vec<Merge>> {
    // By hand, because serde_json rounds floats only nearly right.
    let text: String = text.split_ascii_whitespace().collect();
    let rows = text.strip_prefix('[')?.strip_suffix(']')?;
    let mut merges = Vec::with_capacity(strata.saturating_sub(1));
    if !rows.is_empty() {
        for row in rows.strip_prefix('[')?.strip_suffix(']')?.split("],[") {
            let fields: Vec<&str> = row.split(',').collect();
            let [left, right, height, size] = fields[..] else { return None };
            // Other writers give ids as 3.0.
            let whole = |s: &str| s.strip_suffix(".0").unwrap_or(s).parse().ok();
            let height = height.parse().ok()?;
            merges.push(Merge { left: whole(left)?, right: whole(right)?, height, size: whole(size)? });
        }
    }
    is_dendrogram(&merges, strata).then_some(merges)
}

/// Every node but the last is a child once, and no node before it is made.
pub(crate) fn is_dendrogram(merges: &[Merge], strata: usize) -> bool {
    if merges.len() != strata.saturating_sub(1) {
        return false;
    }
    let mut leaves = vec![1u64; strata];
    for merge in merges {
        let mut size = 0;
        for child in [merge.left, merge.right] {
            match leaves.get_mut(child as usize) {
                Some(n) if *n > 0 => size += std::mem::take(n),
                _ => return false,
            }
        }
        if u64::from(merge.size) != size {
            return false;
        }
        leaves.push(size);
    }
    true
}
