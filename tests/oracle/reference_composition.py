"""Executable form of composition: what a batch is made of beyond rows dealt one by one (numpy only). Rests on reference.py, and
equals its EpochPlan for chunks of one row."""
import numpy as np

from reference import EpochPlan, key, layout


class Deal(EpochPlan):
    """The deal of an epoch in chunks: `chunk` rows that stand together in the list, a divisor of the batch size."""

    def __init__(s, members, b, seed, epoch, z=None, drop_last=False, counts=None, chunk=1):
        assert b % chunk == 0, "the chunk divides the batch size"
        super().__init__(members, b, seed, epoch, z, drop_last, counts)
        s.c, s.L = chunk, None

    def listed(s):
        """The list that full batches are dealt from."""
        if s.L is None:
            s.L = np.concatenate([s._members(h)[s.rh[h] :] for h in s.order])
        return s.L

    def column(s, b):
        """Where full batch b starts in the list, in chunks."""
        return (s.rot + b * s.g) % s.nb

    def dealt(s, b):
        """(rows, tour place of each row's stratum) of batch b, in tour order."""
        if b == s.nb:
            return super().dealt(b)
        q = ((np.arange(s.B // s.c)[:, None] * s.nb + s.column(b)) * s.c + np.arange(s.c)).ravel()
        return s.listed()[q], np.searchsorted(s.off, q, side="right") - 1

    def batch(s, i, k=1):
        """Batch i of size k B, as written: the chunks of k consecutive batches (the rest batch is cut into chunks too, the last one
        shorter) in tour order of their first rows, laid out as rows are for chunk 1; rows of a chunk stay together."""
        chunks = []
        for b in range(i * k, min((i + 1) * k, s.len)):
            rows, t = s.dealt(b)
            chunks += [(int(t[u]), rows[u : u + s.c]) for u in range(0, len(rows), s.c)]
        chunks = [u[1] for u in sorted(chunks, key=lambda u: u[0])]
        return np.concatenate([chunks[e] for e in layout(len(chunks), key(s.seed, s.epoch, 5, k, i))])
