use super::*;

fn open(name: &str) -> LoraFile {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lora");
    LoraFile::open(&folder.join(format!("{name}.safetensors"))).unwrap()
}

#[test]
fn ranks_and_kinds_are_read_off_the_tensors() {
    let kohya = open("kohya");
    assert_eq!((kohya.modules(), kohya.ranks(), kohya.kinds()), (10, vec![4, 8], vec!["LoRA"]));
    for (name, kinds) in [
        ("loha_tucker", vec!["LoHa"]),
        ("lokr", vec!["LoKr"]),
        ("dora_peft", vec!["DoRA"]),
        ("ia3", vec!["(IA)³"]),
        ("oft", vec!["OFT"]),
        ("full", vec!["diff", "set"]),
    ] {
        assert_eq!(open(name).kinds(), kinds, "{name}");
    }
    assert_eq!(open("kohya_bf16").dtypes(), ["bf16"]);
}

#[test]
fn halves_of_both_kinds_are_numbers() {
    for (bits, number) in
        [(0x3c00, 1.0), (0xc000, -2.0), (0x3555, 0.333_251_953_125), (0x0001, 2f64.powi(-24))]
    {
        assert_eq!(of_half(bits), number);
    }
    assert!(of_half(0x7c00).is_infinite() && of_half(0x7e00).is_nan());
}

#[test]
fn pefts_notes_give_alphas_and_its_other_scale() {
    let peft = Peft::read(Some(
        r#"{"unet.lora_alpha": 8, "unet.use_rslora": true, "unet.alpha_pattern": {"attn1.to_q": 4}, "text_encoder.lora_alpha": 2}"#,
    ));
    assert_eq!(peft.scale("unet.mid_block.attn2.to_q", None, 16.0), 2.0);
    assert_eq!(peft.scale("unet.mid_block.attn1.to_q", None, 16.0), 1.0);
    assert_eq!(peft.scale("text_encoder.layers.0", None, 16.0), 0.125);
    assert_eq!(peft.scale("text_encoder_2.layers.0", None, 16.0), 1.0);
    // A tensor is believed before a note.
    assert_eq!(peft.scale("unet.mid_block.attn2.to_q", Some(16.0), 16.0), 1.0);
    assert_eq!(Peft::read(Some("no JSON")).scale("unet.x", None, 4.0), 1.0);
}

#[test]
fn the_words_of_a_lora_are_its_authors_or_the_most_frequent_captions() {
    let with = |notes: &[(&str, &str)]| {
        let mut file = open("kohya");
        for (name, note) in notes {
            file.file.header.notes.insert((*name).into(), (*note).into());
        }
        file
    };
    let tags =
        ("ss_tag_frequency", r#"{"10_frog": {"frog": 3, "green ": 9, "x": "many"}, "5_toad": {"frog": 7}}"#);
    assert_eq!(with(&[tags]).words(), ["frog", "green", "x"]);
    let noted = with(&[tags, ("modelspec.trigger_phrase", "pixel\nart"), ("modelspec.license", "mit")]);
    assert_eq!((noted.words(), noted.licence().as_deref()), (vec![r"pixel\nart".to_owned()], Some("mit")));
    let based = with(&[("ss_base_model_version", "sdxl_base_v1-0")]);
    assert_eq!(based.base().as_deref(), Some("sdxl_base_v1-0"));
    assert!(with(&[("ss_tag_frequency", "[1]")]).words().is_empty());
}

#[test]
fn spoiled_files_are_opened_or_refused_and_never_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/lora");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("spoiled.safetensors");
    // Marsaglia's xorshift: the same spoils each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut opened, mut refused) = (0, 0);
    for name in ["kohya", "loha_tucker", "lokr", "oft", "ia3", "dora_peft", "full"] {
        let whole = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=next(2) {
                let place = 8 + next(header - 8);
                bytes[place] = b"0123456789[]{},:\"_abwt.\\ \x00\xff"[next(27)];
            }
            std::fs::write(&path, &bytes).unwrap();
            match LoraFile::open(&path) {
                Ok(file) => opened += file.modules().min(1),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(opened > 20 && refused > 200, "{opened} opened and {refused} refused");
}
