//! Divides a stream into chunks, and expands it.

/// The length up to which a stream is also divided into single bytes. For longer streams this would be too slow.
const SHORT: usize = 1024;

/// The length of the output after which nothing is expanded.
const LONGEST: usize = 200 * 1024;

/// A byte that UTF-8 does not contain. Followed by a byte below 16, it is expanded to that many times 8 KiB of text.
const FILL: u8 = 0xff;

/// Returns the stream with [`FILL`] expanded, so that a short input can contain an event beyond every limit.
pub fn expanded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail.first()) {
            (FILL, Some(&times @ ..16)) if out.len() < LONGEST => out.resize(out.len() + usize::from(times) * 8 * 1024, b'x'),
            _ => out.push(byte),
        }
    }
    out
}

/// Divides `bytes` into chunks in several ways, which depend on a hash of the bytes.
pub fn divisions(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut random = Random::seeded_by(bytes);
    let (left, right) = bytes.split_at(random.below(bytes.len() + 1));
    let mut all = vec![vec![left, right], random_chunks(bytes, &mut random, 8), random_chunks(bytes, &mut random, bytes.len() / 4)];
    if bytes.len() <= SHORT {
        all.push(bytes.chunks(1).collect());
    }
    all
}

/// Divides `bytes` into chunks of random lengths up to `most`, including empty ones.
fn random_chunks<'a>(bytes: &'a [u8], random: &mut Random, most: usize) -> Vec<&'a [u8]> {
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    let most = most.max(1 + bytes.len() / 128);
    while !rest.is_empty() {
        let (part, tail) = rest.split_at(random.below(most + 1).min(rest.len()));
        chunks.push(part);
        rest = tail;
    }
    chunks
}

/// A pseudo-random number generator (xorshift).
struct Random(u64);

impl Random {
    fn seeded_by(bytes: &[u8]) -> Self {
        let hash =
            bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(hash | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(0) % bound
    }
}
