//! Well-known palettes.

use super::Palette;

/// Name and colours, six digits each.
const KNOWN: &[(&str, &str)] = &[
    ("1-bit", "000000 FFFFFF"),
    // Lexaloffle's PICO-8.
    (
        "pico-8",
        "000000 1D2B53 7E2553 008751 AB5236 5F574F C2C3C7 FFF1E8 FF004D FFA300 FFEC27 00E436 29ADFF 83769C FF77A8 FFCCAA",
    ),
    // DawnBringer.
    (
        "db16",
        "140C1C 442434 30346D 4E4A4E 854C30 346524 D04648 757161 597DCE D27D2C 8595A1 6DAA2C D2AA99 6DC2CA DAD45E DEEED6",
    ),
    (
        "db32",
        "000000 222034 45283C 663931 8F563B DF7126 D9A066 EEC39A FBF236 99E550 6ABE30 37946E 4B692F 524B24 323C39 3F3F74 \
         306082 5B6EE1 639BFF 5FCDE4 CBDBFC FFFFFF 9BADB7 847E87 696A6A 595652 76428A AC3232 D95763 D77BBA 8F974A 8A6F30",
    ),
    // Endesga.
    (
        "endesga-32",
        "BE4A2F D77643 EAD4AA E4A672 B86F50 733E39 3E2731 A22633 E43B44 F77622 FEAE34 FEE761 63C74D 3E8948 265C42 193C3E \
         124E89 0099DB 2CE8F5 FFFFFF C0CBDC 8B9BB4 5A6988 3A4466 262B44 181425 FF0044 68386C B55088 F6757A E8B796 C28569",
    ),
    // GrafxKid.
    (
        "sweetie-16",
        "1A1C2C 5D275D B13E53 EF7D57 FFCD75 A7F070 38B764 257179 29366F 3B5DC9 41A6F6 73EFF7 F4F4F4 94B0C2 566C86 333C57",
    ),
    // The green screen of the first Game Boy, as most emulators show it.
    ("game-boy", "0F380F 306230 8BAC0F 9BBC0F"),
    // The 2C02 as FCEUX showed it for long.
    (
        "nes",
        "7C7C7C 0000FC 0000BC 4428BC 940084 A80020 A81000 881400 503000 007800 006800 005800 004058 000000 BCBCBC 0078F8 \
         0058F8 6844FC D800CC E40058 F83800 E45C10 AC7C00 00B800 00A800 00A844 008888 F8F8F8 3CBCFC 6888FC 9878F8 F878F8 \
         F85898 F87858 FCA044 F8B800 B8F818 58D854 58F898 00E8D8 787878 FCFCFC A4E4FC B8B8F8 D8B8F8 F8B8F8 F8A4C0 F0D0B0 \
         FCE0A8 F8D878 D8F878 B8F8B8 B8F8D8 00FCFC F8D8F8",
    ),
    // Philip Timmermann's measurement ("Pepto").
    (
        "c64",
        "000000 FFFFFF 68372B 70A4B2 6F3D86 588D43 352879 B8C76F 6F4F25 433900 9A6759 444444 6C6C6C 9AD284 6C5EB5 959595",
    ),
    (
        "cga",
        "000000 0000AA 00AA00 00AAAA AA0000 AA00AA AA5500 AAAAAA 555555 5555FF 55FF55 55FFFF FF5555 FF55FF FFFF55 FFFFFF",
    ),
    // Mode 4 in its two bright sets.
    ("cga-0", "000000 55FF55 FF5555 FFFF55"),
    ("cga-1", "000000 55FFFF FF55FF FFFFFF"),
    (
        "zx-spectrum",
        "000000 0000D7 D70000 D700D7 00D700 00D7D7 D7D700 D7D7D7 0000FF FF0000 FF00FF 00FF00 00FFFF FFFF00 FFFFFF",
    ),
    // The TMS9918.
    (
        "msx",
        "000000 3EB849 74D07D 5955E0 8076F1 B95E51 65DBEF DB6559 FF897D CCC35E DED087 3AA241 B766B5 CCCCCC FFFFFF",
    ),
];

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

pub(super) fn find(text: &str) -> Option<Palette> {
    let plain = |name: &str| name.replace(['-', '_', ' '], "").to_lowercase();
    let (_, colors) = KNOWN.iter().find(|(name, _)| plain(name) == plain(text))?;
    let color = |digits: &str| {
        let [_, r, g, b] =
            u32::from_str_radix(digits, 16).expect("the table has digits; this is a bug").to_be_bytes();
        [r, g, b]
    };
    Some(Palette::new(colors.split_whitespace().map(color)).expect("the table has colours; this is a bug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_number_of_different_colours() {
        let counts = [2, 16, 16, 32, 32, 16, 4, 55, 16, 16, 4, 4, 15, 15];
        for ((name, colors), count) in KNOWN.iter().zip(counts) {
            assert_eq!(find(name).unwrap().colors().len(), count, "{name}");
            assert_eq!(colors.split_whitespace().count(), count, "{name}");
        }
        assert_eq!(KNOWN.len(), counts.len());
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        assert_eq!(find("Endesga 32"), find("endesga-32"));
        assert_eq!(find("GAME_BOY"), find("gameboy"));
        assert_eq!(find("endesga"), None);
    }
}
