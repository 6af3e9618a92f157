//! Palettes as text: GPL, JASC-PAL, Paint.NET and lists of hexadecimal colors.

pub(super) fn parse(text: &str) -> Result<Vec<[u8; 3]>, String> {
    if text.starts_with("GIMP Palette") {
        return gpl(text);
    }
    if text.starts_with("JASC-PAL") {
        return jasc(text);
    }
    hex(text)
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).map(|(number, line)| (number, line.trim())).filter(|(_, line)| !line.is_empty())
}

/// Lines of three numbers and perhaps a name, after a header. `Channels: RGBA` in the header says
/// that alpha is the fourth; what is invisible is no color.
fn gpl(text: &str) -> Result<Vec<[u8; 3]>, String> {
    let mut has_alpha = false;
    let mut colors = vec![];
    for (number, line) in lines(text).skip(1) {
        if line.starts_with('#') {
            continue;
        }
        if line.starts_with(|letter: char| letter.is_alphabetic())
            && let Some((name, value)) = line.split_once(':')
        {
            has_alpha |= name == "Channels" && value.trim().eq_ignore_ascii_case("RGBA");
            continue;
        }
        let (color, fourth) = numbers(number, line)?;
        if !has_alpha || fourth != Some(0) {
            colors.push(color);
        }
    }
    Ok(colors)
}

/// `JASC-PAL`, `0100`, the count, then lines of three numbers, or four with alpha.
fn jasc(text: &str) -> Result<Vec<[u8; 3]>, String> {
    let mut rest = lines(text).skip(1).peekable();
    let mut count = None;
    // The version and the count stand alone in their lines.
    while let Some((_, line)) = rest.next_if(|(_, line)| !line.contains(char::is_whitespace)) {
        count = line.parse::<usize>().ok();
    }
    let colors: Vec<_> =
        rest.map(|(number, line)| Ok(numbers(number, line)?.0)).collect::<Result<_, String>>()?;
    match count {
        Some(count) if count > colors.len() => {
            Err(format!("it says {count} colors and has {}: the file was cut", colors.len()))
        }
        _ => Ok(colors),
    }
}

/// Three numbers, and the fourth if it is one.
fn numbers(number: usize, line: &str) -> Result<([u8; 3], Option<u8>), String> {
    let mut words = line.split_whitespace().map(str::parse::<u8>);
    match (words.next(), words.next(), words.next()) {
        (Some(Ok(r)), Some(Ok(g)), Some(Ok(b))) => Ok(([r, g, b], words.next().and_then(Result::ok))),
        _ => Err(format!("line {number} is `{}`; expected three numbers from 0 to 255", short(line))),
    }
}

/// Colors between commas, spaces and ends of lines, with comments after `;`, `//` or `#`.
fn hex(text: &str) -> Result<Vec<[u8; 3]>, String> {
    let mut colors = vec![];
    for (number, line) in lines(text) {
        let code = line.split(';').next().unwrap_or_default();
        let code = code.split("//").next().unwrap_or_default();
        let words = code.split(|letter: char| letter.is_whitespace() || letter == ',');
        let words = words.map(|word| word.trim_matches(['"', '\'', '[', ']', '{', '}', '(', ')']));
        for word in words.filter(|word| !word.is_empty()) {
            if is_comment(word) {
                break;
            }
            colors.push(color(word).ok_or_else(|| {
                format!("line {number} is `{}`; expected a color as `1A1C2C` or `#FFF`", short(line))
            })?);
        }
    }
    Ok(colors)
}

/// `true` if a comment begins here, and not a color: `#`, `##`, `#Palette`, but not `#12345g`.
fn is_comment(word: &str) -> bool {
    word.strip_prefix('#').is_some_and(|rest| {
        let as_long_as_a_color = matches!(rest.len(), 3 | 4 | 6 | 8);
        rest.is_empty()
            || rest.starts_with('#')
            || !as_long_as_a_color && rest.contains(|letter: char| !letter.is_ascii_hexdigit())
    })
}

/// `#RGB`, `#RGBA`, `#RRGGBB`, `#RRGGBBAA`; and without `#` or after `0x` six digits, or eight with
/// alpha first, as Paint.NET writes them.
pub(super) fn color(word: &str) -> Option<[u8; 3]> {
    let bare = word.strip_prefix("0x").or(word.strip_prefix("0X"));
    let (digits, after_hash) = match (word.strip_prefix('#'), bare) {
        (Some(digits), _) => (digits, true),
        (None, Some(digits)) => (digits, false),
        (None, None) => (word, false),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let twice = |digits: &str| digits.chars().flat_map(|digit| [digit, digit]).collect::<String>();
    let rgb = match digits.len() {
        3 | 4 => twice(&digits[..3]),
        6 => digits.to_owned(),
        8 if after_hash => digits[..6].to_owned(),
        8 => digits[2..].to_owned(),
        _ => return None,
    };
    let [_, r, g, b] = u32::from_str_radix(&rgb, 16).ok()?.to_be_bytes();
    Some([r, g, b])
}

fn short(line: &str) -> String {
    line.chars().take(40).collect()
}
