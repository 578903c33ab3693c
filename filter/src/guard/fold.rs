//! Folding: characters that look alike to a reader become the same character.
//!
//! Case, width, accents, styles and enclosures of Latin letters are removed, and so are invisible characters (zero-width,
//! direction, variation). Tag characters, which people do not see but tokenizers do, become the letters they encode. Letters of
//! other scripts stay, in lower case: whether they stand for Latin ones depends on the whole word ([`to_latin`]).

use std::sync::OnceLock;

/// The base letters of U+00C0 to U+024F; `.` where there is none.
const LATIN: &[u8; 400] = b"\
aaaaaaaceeeeiiiidnooooo.ouuuuytsaaaaaaaceeeeiiiidnooooo.ouuuuyty\
aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkklllllll\
lllnnnnnnnnnoooooooorrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs\
bbbb..occdddddeeeffgyhiikkl.mnnooooopprssssttttuuuvyyzzzzzz...sp\
....dddlllnnnaaiioouuuuuuuuuueaaaa..ggggkkoooo..jdddgg..nnaa..oo\
aaaaeeeeiiiioooorrrruuuusstt..hhndoozzaaeeooooooooyylnt...acclts\
z..b.veejj.qrryy";

/// The base letters of U+1E00 to U+1EFF.
const LATIN_ADDITIONAL: &[u8; 256] = b"\
aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmm\
mmmmnnnnnnnnoooooooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvv\
wwwwwwwwwwxxxxyyzzzzzzhtwyas....aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeee\
eeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy....yy";

/// Characters that stand for a Latin letter, each followed by it: small capitals, phonetic letters, superscripts, letterlike
/// symbols.
const STYLED: &str = "ᴀaʙbᴄcᴅdᴇeꜰfɢgʜhɪiᴊjᴋkʟlᴍmɴnᴏoᴘpꞯqʀrꜱsᴛtᴜuᴠvᴡwʏyᴢz\
ɑaɐaɓbƈcɖdɗdɘeəeɛeɡgɠgɦhɨiɩiɫlɭlɱmɲnɳnɵoɔcɽrɾrɹrʂsʇtʈtʉuʋvʍwʎyʐzʒzɯmɥhǝe\
ᵃaᵇbᶜcᵈdᵉeᶠfᵍgʰhⁱiʲjᵏkˡlᵐmⁿnᵒoᵖpʳrˢsᵗtᵘuᵛvʷwˣxʸyᶻzᴬaᴮbᴰdᴱeᴳgᴴhᴵiᴶjᴷkᴸlᴹmᴺnᴼoᴾpᴿrᵀtᵁuⱽvᵂw\
ₐaₑeₕhᵢiⱼjₖkₗlₘmₙnₒoₚpᵣrₛsₜtᵤuᵥvₓx\
ℂcℊgℋhℌhℍhℎhℐiℑiℒlℓlℕnℙpℚqℛrℜrℝrℤzℨzℬbℭcℯeℰeℱfℳmℴoℹiⅅdⅆdⅇeⅈiⅉj\u{212a}k\u{212b}aªaºo\
⁰0¹1²2³3⁴4⁵5⁶6⁷7⁸8⁹9₀0₁1₂2₃3₄4₅5₆6₇7₈8₉9\
‐-‑-‒-–-—-―-−-‘'’'‛'′'ʼ'´'“\"”\"„\"‟\"«\"»\"‹\"›\"「\"」\"『\"』\"《\"》\"。.、,，,！!？?：:；;（(）)【[】]［[］]〈<〉>⟨<⟩>‖|∣|ǀ|⟦[⟧]⁄/∕/….";

/// Letters of other scripts that occur with and without a mark, or in several forms, each followed by its folded form.
const LOOSE: &str = "йиѝиёеѐеїіғгқкңнүуұуҳхάαέεήηίιόουυύυώωϊιϋυΐιΰυςσأاإاآاٱاىيئيؤوةهیيکكھه";

/// Letters of other scripts that resemble a Latin one, each followed by it.
const CONFUSABLE: &str = "аaвbсcԁdеeѐeёeғfԍgһhнhіiїiјjкkӏlмmпnոnоoөoрpԛqгrѕsтtυuսuцuѵvνvԝwшwѡwхxуyүyӯyзzԑeєeьbбbдdлlиnйnяrчyэeщwфoүy\
αaβbγyδdεeζzηnθoιiκkλlμuπnρpσoςcτtφoχxωwοoϲcϳjձdցgհhյjքpօoեeսuաwꭰdꭱrꓮaꓐbꓚcꓓdꓰeꓝfꓖgꓧhꓲiꓙjꓗkꓡlꓟmꓠnꓳoꓑpꓣrꓢsꓔtꓴuꓦvꓪwꓫxꓬyꓜz\
аaἀaάaέeήnίiόoύuώw";

/// Those of them that are indistinguishable from the Latin letter.
const TWINS: &str = "авсԁеԍһіјкӏмноөрԛѕтуѵԝхαβειικμνοορτυχγηωոսօեհցꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ";

/// Latin letters that resemble a Cyrillic one, each followed by it.
const CYRILLIC: &str = "aаbвcсeеhнiіkкmмnпoоpрrгtтuиxхyуjј3з6б0о";

/// Appends the folded `text` to `out`.
pub fn fold(text: &str, out: &mut String) {
    let tables = Tables::get();
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest.bytes().take_while(u8::is_ascii).count();
        let (plain, foreign) = rest.split_at(ascii);
        let start = out.len();
        out.push_str(plain);
        out.get_mut(start..).unwrap_or_default().make_ascii_lowercase();
        let length = foreign.bytes().take_while(|b| !b.is_ascii()).count();
        let (foreign, tail) = foreign.split_at(length);
        for c in foreign.chars() {
            fold_char(tables, c, out);
        }
        rest = tail;
    }
}

/// Returns a word in Latin letters, if all its letters resemble Latin ones.
pub fn to_latin(word: &str) -> Option<String> {
    let tables = Tables::get();
    word.chars().map(|c| if c.is_ascii() { Some(c) } else { tables.confusable.get(c) }).collect()
}

/// Returns whether a word of another script looks Latin as a whole, or contains Latin letters.
pub fn may_be_latin(word: &str) -> bool {
    let twins = &Tables::get().twins;
    word.bytes().any(|b| b.is_ascii_alphanumeric()) || word.chars().all(|c| twins.binary_search(&c).is_ok())
}

/// Returns a word with its Latin letters replaced by Cyrillic ones that resemble them.
pub fn to_cyrillic(word: &str) -> String {
    let tables = Tables::get();
    word.chars().map(|c| if c.is_ascii() { tables.cyrillic.get(c).unwrap_or(c) } else { c }).collect()
}

/// Returns the base letter of an accented Latin letter.
pub fn base(c: char) -> Option<u8> {
    let code = u32::from(c);
    let found = match code {
        0xc0..=0x24f => LATIN.get(code.wrapping_sub(0xc0) as usize),
        0x1e00..=0x1eff => LATIN_ADDITIONAL.get(code.wrapping_sub(0x1e00) as usize),
        _ => None,
    };
    found.copied().filter(u8::is_ascii_lowercase)
}

fn fold_char(tables: &Tables, c: char, out: &mut String) {
    match u32::from(c) {
        // The most frequent first: Russian, then scripts whose letters have one form only (Han, Kana, Hangul).
        0x419 | 0x439 => out.push('и'),
        0x430..=0x44f => out.push(c),
        code @ 0x410..=0x42f => out.extend(char::from_u32(code + 0x20)),
        0x3041..=0x9fff | 0xac00..=0xd7a3 if !matches!(c, '\u{3164}') => out.push(c),
        0xa0 | 0x1680 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => out.push(' '),
        0x85 | 0x2028 | 0x2029 => out.push('\n'),
        code if is_unseen(code) => {}
        // Tag characters: invisible ASCII.
        code @ 0xe0020..=0xe007e => push(out, code - 0xe0000),
        // Full-width characters and styled alphabets, in runs of 26.
        code @ 0xff01..=0xff5e => push(out, code - 0xff01 + 0x21),
        code @ 0x1d400..=0x1d6a3 => letter(out, (code - 0x1d400) % 26),
        code @ 0x1d7ce..=0x1d7ff => push(out, (code - 0x1d7ce) % 10 + 0x30),
        0x1d6a4 => out.push('i'),
        0x1d6a5 => out.push('j'),
        code @ 0x1d6a8..=0x1d7cb => greek(out, (code - 0x1d6a8) % 58),
        code @ 0x249c..=0x24b5 => letter(out, code - 0x249c),
        code @ 0x24b6..=0x24e9 => letter(out, (code - 0x24b6) % 26),
        code @ 0x1f110..=0x1f129 => letter(out, code - 0x1f110),
        code @ 0x1f130..=0x1f149 => letter(out, code - 0x1f130),
        code @ 0x1f150..=0x1f169 => letter(out, code - 0x1f150),
        code @ 0x1f170..=0x1f189 => letter(out, code - 0x1f170),
        code @ 0x1f1e6..=0x1f1ff => letter(out, code - 0x1f1e6),
        code @ 0x2460..=0x2468 => push(out, code - 0x2460 + 0x31),
        0xc6 | 0xe6 => out.push_str("ae"),
        0x93c => {}
        0x152 | 0x153 => out.push_str("oe"),
        0xdf | 0x1e9e => out.push_str("ss"),
        _ => match base(c).map(char::from).or_else(|| tables.styled.get(c)) {
            Some(base) => out.push(base),
            None => out.extend(c.to_lowercase().filter(|&c| !is_unseen(u32::from(c))).map(|c| tables.loose.get(c).unwrap_or(c))),
        },
    }
}

/// Returns whether a character is invisible, or only a mark on another.
fn is_unseen(code: u32) -> bool {
    matches!(code,
        0xad | 0x34f | 0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5c7 | 0x610..=0x61a | 0x61c | 0x640 | 0x64b..=0x65f | 0x670
        | 0x6d6..=0x6dc | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff
        | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0x20d0..=0x20ff | 0x2800 | 0x3164 | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe001f
        | 0xe007f..=0xe0fff)
}

/// A table of replacements, sorted by the replaced character.
struct Pairs(Vec<(char, char)>);

/// The tables, built once.
struct Tables {
    styled: Pairs,
    loose: Pairs,
    confusable: Pairs,
    cyrillic: Pairs,
    twins: Vec<char>,
}

// === impl Pairs ===

impl Pairs {
    fn new(table: &str) -> Self {
        let mut chars = table.chars();
        let mut pairs: Vec<(char, char)> = std::iter::from_fn(|| Some((chars.next()?, chars.next()?))).collect();
        pairs.sort_by_key(|pair| pair.0);
        Self(pairs)
    }

    fn get(&self, c: char) -> Option<char> {
        let place = self.0.binary_search_by_key(&c, |pair| pair.0).ok()?;
        self.0.get(place).map(|pair| pair.1)
    }
}

// === impl Tables ===

impl Tables {
    fn get() -> &'static Self {
        static TABLES: OnceLock<Tables> = OnceLock::new();
        TABLES.get_or_init(|| Self {
            styled: Pairs::new(STYLED),
            loose: Pairs::new(LOOSE),
            confusable: Pairs::new(CONFUSABLE),
            cyrillic: Pairs::new(CYRILLIC),
            twins: std::collections::BTreeSet::from_iter(TWINS.chars()).into_iter().collect(),
        })
    }
}

fn letter(out: &mut String, index: u32) {
    push(out, index + u32::from(b'a'));
}

/// The mathematical Greek alphabets: 25 capitals, nabla, 25 small letters, and variants.
fn greek(out: &mut String, index: u32) {
    let small = if index < 25 { index } else { index.saturating_sub(26) % 25 };
    out.extend(char::from_u32(0x3b1 + small));
}

fn push(out: &mut String, code: u32) {
    out.extend(char::from_u32(code).map(|c| c.to_ascii_lowercase()));
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn folded(text: &str) -> String {
        let mut out = String::new();
        fold(text, &mut out);
        out
    }

    #[test]
    fn tables_are_aligned() {
        for (c, letter) in "ÀaÅaÇcÉeÏiÐdÑnÖoØoÜuÝyàaçcéeïiñnöoøoüuÿyĀaąaćcčcďdđdēeęeĝgğgģgĥhħhĩiĮiİiıiĵjķkĺlłlńnňnōoőoŕrřrśsşsšsţtťtũuůuűuųuŵwŷyŸyźzżzžzſsƀbƆoƇcƉdƏeƑfƒfƓgƗiƘkƚlƝnƞnƠoơoƤpƫtƭtƯuưuƳyƴyƵzƶzǍaǎaǐiǒoǔuǧgǩkǪoǰjǴgǹnȀaȅeȉiȍoȑrȕuȘsșsȚtțtȟhȦaȩeȮoȳyḀaḃbḍdḙeḟfḡgḥhḭiḱkḷlḿmṃmṅnṉnṍoṓoṕpṗpṙrṟrṡsṩsṫtṱtṳuṻuṽvẁwẉwẋxẏyẑzẕzẖhẗtẘwẙyạaặaẹeệeỉiịiọoợoụuựuỳyỹy"
            .chars()
            .collect::<Vec<_>>()
            .chunks(2)
            .map(|pair| (pair[0], pair[1]))
        {
            assert_eq!(folded(&c.to_string()), letter.to_string(), "{c} U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn tricks_are_undone() {
        for (trick, hidden, plain) in [
            ("case", "IgNoRe", "ignore"),
            ("full width", "Ｉｇｎｏｒｅ　ａｌｌ！", "ignore all!"),
            ("zero width", "ig\u{200b}no\u{200d}re\u{feff}\u{2060}", "ignore"),
            ("soft hyphen", "ig\u{ad}nore", "ignore"),
            ("bidi", "\u{202e}ig\u{2066}nore\u{2069}", "ignore"),
            ("tags", "a\u{e0069}\u{e0067}\u{e006e}\u{e007f}", "aign"),
            ("variation selectors", "i\u{fe0f}g\u{e0100}n", "ign"),
            ("combining marks", "i\u{301}g\u{336}n\u{20dd}ore", "ignore"),
            ("precomposed", "ĩğñöŕé", "ignore"),
            ("dotless and dotted", "İıg", "iig"),
            ("bold", "𝐢𝐠𝐧𝐨𝐫𝐞", "ignore"),
            ("fraktur", "𝔦𝔤𝔫𝔬𝔯𝔢 𝕴𝖌𝖓", "ignore ign"),
            ("script", "𝓲𝓰𝓷𝓸𝓻𝓮", "ignore"),
            ("double-struck", "𝕚𝕘𝕟𝕠𝕣𝕖 ℝ", "ignore r"),
            ("monospace", "𝚒𝚐𝚗𝚘𝚛𝚎 𝟘𝟙", "ignore 01"),
            ("circled", "ⓘⓖⓝⓞⓡⓔ Ⓘ", "ignore i"),
            ("parenthesised", "⒤⒢⒩", "ign"),
            ("squared", "🄸🄶🄽 🅸🅶🅽 🅘🅖🅝", "ign ign ign"),
            ("regional indicators", "🇮🇬🇳", "ign"),
            ("small capitals", "ɪɢɴᴏʀᴇ", "ignore"),
            ("superscript", "ⁱᵍⁿᵒʳᵉ", "ignore"),
            ("ligatures", "æœß", "aeoess"),
            ("spaces", "a\u{a0}b\u{2003}c\u{3000}d", "a b c d"),
            ("quotes and dashes", "“a”—’", "\"a\"-'"),
            ("Cyrillic case and marks", "ИГНОРИРУЙ Ё", "игнорируи е"),
            ("Greek case and marks", "ΑΓΝΌΗΣΕ", "αγνοησε"),
            ("Arabic marks", "تَجَاهَلـــ", "تجاهل"),
        ] {
            assert_eq!(folded(hidden), plain, "{trick}");
        }
    }

    #[test]
    fn pairs_are_pairs() {
        for table in [STYLED, CONFUSABLE] {
            let chars: Vec<char> = table.chars().collect();
            assert!(chars.chunks(2).all(|pair| !pair[0].is_ascii() && pair[1].is_ascii()), "{table}");
        }
        assert!(CYRILLIC.chars().step_by(2).all(|c| c.is_ascii()));
        assert!(LOOSE.chars().all(|c| !c.is_ascii()) && LOOSE.chars().count().is_multiple_of(2));
    }

    #[test]
    fn mixed_words_are_read_both_ways() {
        assert_eq!(to_latin("іgnоrе").as_deref(), Some("ignore"));
        assert_eq!(to_latin("οrіginαl").as_deref(), Some("original"));
        assert_eq!(to_latin("忽略a"), None);
        assert_eq!(to_cyrillic("вce"), "все");
        assert_eq!(to_cyrillic("игнopиpyи"), "игнорируи");
    }
}
