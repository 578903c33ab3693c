//! Ways to cut a stream into pieces, and to make it long.

/// Longer streams are not cut into single bytes: it would take all the time there is.
const SHORT: usize = 1024;

/// No more is written out.
const LONGEST: usize = 200 * 1024;

/// This byte is in no UTF-8: with one below 16 after it, it stands for so many times 8 KiB of text.
const FILL: u8 = 0xff;

/// The stream with what stands for long text written out, so that a few bytes can make an event beyond every limit.
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

/// Some ways to cut `bytes`; which ones, the bytes themselves decide.
pub fn cuttings(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut dice = Dice::of(bytes);
    let (left, right) = bytes.split_at(dice.below(bytes.len() + 1));
    let mut all = vec![vec![left, right], thrown(bytes, &mut dice, 8), thrown(bytes, &mut dice, bytes.len() / 4)];
    if bytes.len() <= SHORT {
        all.push(bytes.chunks(1).collect());
    }
    all
}

/// Pieces of up to `most` bytes, empty ones among them.
fn thrown<'a>(bytes: &'a [u8], dice: &mut Dice, most: usize) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    let most = most.max(1 + bytes.len() / 128);
    while !rest.is_empty() {
        let (part, tail) = rest.split_at(dice.below(most + 1).min(rest.len()));
        pieces.push(part);
        rest = tail;
    }
    pieces
}

/// Numbers that follow from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn of(bytes: &[u8]) -> Self {
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
