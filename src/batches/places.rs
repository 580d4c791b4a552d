//! Where a row stands in which batch, and which row stands at a place, without dealing: what exchanges of rows go by.

use crate::batches::batch::Batch;
use crate::batches::deal::{Deal, Rows};

impl Deal<'_> {
    /// Whether rows are drawn more or less often than once an epoch.
    pub(super) fn draws_again(&self) -> bool {
        self.offsets.windows(2).zip(&self.counts).any(|(o, &count)| o[1] - o[0] != count)
    }

    /// Stratum, and number of its draw, of a place among the members, if all are drawn once.
    pub(super) fn draw_of(&self, member: u64) -> (u32, u64) {
        let h = self.offsets.partition_point(|&o| o <= member) - 1;
        (h as u32, self.first_pass[h].place(member - self.offsets[h]))
    }

    /// All draws of a stratum: number and row.
    pub(super) fn each_draw(&self, stratum: u32, mut f: impl FnMut(u64, u64)) {
        let mut rows = Rows::of(self, stratum);
        (0..self.counts[stratum as usize]).for_each(|draw| f(draw, rows.draw(draw)));
    }

    /// Batch, and place in it in tour order, of a draw of the stratum at a place of the tour; `back`: inverse of the stride. None if it
    /// is in the rest batch, which is dropped. O(1).
    pub(super) fn find(&self, tour: usize, draw: u64, back: u64) -> Option<(u64, u32)> {
        let kept = self.rest[self.order[tour] as usize];
        if draw < kept {
            return (self.full < self.len).then(|| (self.full, (self.rest_starts[tour] + draw) as u32));
        }
        let at = self.starts[tour] + draw - kept;
        let (chunk, row) = (at / self.chunk, at % self.chunk);
        let ahead = chunk % self.full + self.full - self.rotation;
        let batch = u128::from(ahead) * u128::from(back) % u128::from(self.full);
        Some((batch as u64, (chunk / self.full * self.chunk + row) as u32))
    }

    /// Place in the tour, and row, of a place of a batch in tour order. O(log strata).
    pub(super) fn dealt(&self, batch: u64, place: u32) -> (u32, u64) {
        let place = u64::from(place);
        let at = |starts: &[u64], at: u64| (starts.partition_point(|&start| start <= at) - 1, at);
        let (tour, number) = if batch == self.full {
            let (tour, at) = at(&self.rest_starts, place);
            (tour, at - self.rest_starts[tour])
        } else {
            let (tour, at) = at(&self.starts, self.listed(self.column(batch), place));
            (tour, self.rest[self.order[tour] as usize] + at - self.starts[tour])
        };
        (tour as u32, Rows::of(self, self.order[tour]).draw(number))
    }

    /// Where a place of the full batch at a column stands in the list.
    fn listed(&self, column: u64, place: u64) -> u64 {
        (place / self.chunk * self.full + column) * self.chunk + place % self.chunk
    }

    /// Places in the tour of the strata of a batch, in tour order. O(rows + strata).
    pub(super) fn tour_of(&self, batch: u64) -> Vec<u32> {
        let is_rest = batch == self.full;
        let starts = if is_rest { &self.rest_starts } else { &self.starts };
        let rows = if is_rest { self.rest_starts[self.order.len()] } else { self.base };
        let column = if is_rest { 0 } else { self.column(batch) };
        let mut tour = 0;
        (0..rows)
            .map(|place| {
                let at = if is_rest { place } else { self.listed(column, place) };
                while starts[tour + 1] <= at {
                    tour += 1;
                }
                tour as u32
            })
            .collect()
    }
}

impl Batch {
    /// Puts a row to a place (in tour order) of batch `member` of union `index` of `k` among those that were dealt last. `rest`: the
    /// union holds the rest batch.
    pub(super) fn put(
        &mut self,
        deal: &Deal<'_>,
        (index, k, rest): (usize, u64, bool),
        member: usize,
        place: u32,
        (row, stratum): (u64, u32),
    ) {
        let (k, heads, chunk) = (k as usize, self.heads.len(), deal.chunk as usize);
        let heads = &self.heads[heads.min(index * k)..heads.min((index + 1) * k)];
        let rank = deal.rank(heads, rest, member, u64::from(place) / deal.chunk);
        let first = index * k * deal.base as usize / chunk;
        let position = self.positions[first + rank] + place % chunk as u32;
        self.rows[position as usize] = row;
        self.exchanged.push((position, stratum));
    }
}
