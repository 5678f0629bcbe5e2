//! Sequences: characters in the order of the alphabet, of the numbers or of the keyboard.

use super::SHORTEST_FRAGMENT;
use super::runs::Runs;

/// The place of each character in one order; characters that do not follow one another in it are
/// at least three places apart, and those that it does not contain are at place 0.
type Order = [u8; 256];

/// `abcd`, `6789`, in either case.
static ALPHABET: Order = order(&[b"abcdefghijklmnopqrstuvwxyz", b"0123456789"]);

/// The rows of a US keyboard: `qwerty`, `67890`.
static ROWS: Order = order(&[b"`1234567890-=", b"qwertyuiop[]\\", b"asdfghjkl;'", b"zxcvbnm,./"]);

/// The slanting columns of a US keyboard: `1qaz`, `2wsx`.
static COLUMNS: Order = order(&[
    b"1qaz", b"2wsx", b"3edc", b"4rfv", b"5tgb", b"6yhn", b"7ujm", b"8ik,", b"9ol.", b"0p;/",
]);

/// What Shift makes of the other keys of a US keyboard (letters aside): `!QAZ` is a walk too.
const SHIFTED: [(u8, u8); 21] = [
    (b'`', b'~'),
    (b'1', b'!'),
    (b'2', b'@'),
    (b'3', b'#'),
    (b'4', b'$'),
    (b'5', b'%'),
    (b'6', b'^'),
    (b'7', b'&'),
    (b'8', b'*'),
    (b'9', b'('),
    (b'0', b')'),
    (b'-', b'_'),
    (b'=', b'+'),
    (b'[', b'{'),
    (b']', b'}'),
    (b'\\', b'|'),
    (b';', b':'),
    (b'\'', b'"'),
    (b',', b'<'),
    (b'.', b'>'),
    (b'/', b'?'),
];

/// The free places between two chains.
const GAP: u8 = 3;

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a bad index")]
const fn order(chains: &[&[u8]]) -> Order {
    let mut places = [0; 256];
    let mut place = GAP;
    let mut chain = 0;
    while chain < chains.len() {
        let mut index = 0;
        while index < chains[chain].len() {
            let character = chains[chain][index];
            places[character as usize] = place;
            places[character.to_ascii_uppercase() as usize] = place;
            place += 1;
            index += 1;
        }
        place += GAP;
        chain += 1;
    }
    let mut pair = 0;
    while pair < SHIFTED.len() {
        let (plain, shifted) = SHIFTED[pair];
        places[shifted as usize] = places[plain as usize];
        pair += 1;
    }
    places
}

/// The ways in which one character can follow another: forwards and backwards, and in the
/// alphabet also every other one (`2468`, `acegi`).
const WAYS: usize = 8;

fn ways(from: u8, to: u8) -> [bool; WAYS] {
    let step = |order: &Order| {
        let place = |byte| order.get(usize::from(byte)).copied().unwrap_or_default();
        place(to).wrapping_sub(place(from)).cast_signed()
    };
    let (alphabet, rows, columns) = (step(&ALPHABET), step(&ROWS), step(&COLUMNS));
    [
        alphabet == 1,
        alphabet == -1,
        alphabet == 2,
        alphabet == -2,
        rows == 1,
        rows == -1,
        columns == 1,
        columns == -1,
    ]
}

/// Notes every sequence in `text`, and tells how long the longest is.
pub(super) fn find(text: &[u8], runs: &mut Runs) -> usize {
    // From the end: how long the sequence of each way is that begins at the character in hand.
    let mut lengths = [1_usize; WAYS];
    let mut longest = 0;
    for (start, pair) in text.windows(2).enumerate().rev() {
        let &[from, to] = pair else { continue };
        let mut here = 0;
        for (length, continues) in lengths.iter_mut().zip(ways(from, to)) {
            *length = if continues { *length + 1 } else { 1 };
            here = here.max(*length);
        }
        if here >= SHORTEST_FRAGMENT {
            runs.note(start, here);
            longest = longest.max(here);
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn longest(text: &str) -> usize {
        find(text.as_bytes(), &mut Runs::default())
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn alphabet_numbers_rows_and_columns_are_sequences_in_both_directions() {
        for text in [
            "abc",
            "abcdefghijklmnopqrstuvwxyz",
            "aBcD",
            "4321",
            "789",
            "2468",
            "97531",
            "acegi",
            "qwertyuiop",
            "poiuytrewq",
            "asdf",
            "lkjh",
            "zxcvbnm",
            "67890",
            "09876",
            "1qaz",
            "zaq1",
            "!QAZ",
            "xsw2",
            "!@#$%^&*()",
            "[]\\",
            "qwertyuiop[]",
        ] {
            assert_eq!(longest(text), text.len(), "{text}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_only_looks_like_a_sequence_is_none() {
        for text in
            ["", "a", "ab", "abd", "aaa", "aba", "z01", "yz0", "9:;", "@AB", "pas", "lzx", "~~~"]
        {
            assert_eq!(longest(text), 0, "{text}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_sequence_is_noted_at_each_of_its_beginnings() {
        let mut runs = Runs::default();
        assert_eq!(find(b"x-abcdef-x", &mut runs), 6);
        let noted: Vec<_> = (0..10).map(|start| runs.longest_at(start)).collect();
        assert_eq!(noted, [0, 0, 6, 5, 4, 3, 0, 0, 0, 0]);
    }
}
