//! Added tokens against transformers' `CLIPTokenizer`; `data/golden/tokenizer/added.py` made the numbers.

use latentrace_text::{Error, Form, Tokenizer};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(path)
}

/// A copy of the tiny tokenizer with other files over it; null removes a file.
fn folder(files: &Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(golden("networks/sd1/tokenizer")).unwrap().flatten() {
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    for (name, content) in files.as_object().unwrap() {
        match content {
            Value::Null => fs::remove_file(folder.path().join(name)).unwrap(),
            content => fs::write(folder.path().join(name), content.to_string()).unwrap(),
        }
    }
    folder
}

fn open(folder: &TempDir) -> Tokenizer {
    Tokenizer::open(folder.path(), 77).unwrap_or_else(|error| panic!("{error}"))
}

fn with_added(added: &str) -> TempDir {
    folder(&serde_json::from_str(&format!(r#"{{"added_tokens.json": {added}}}"#)).unwrap())
}

#[test]
fn every_folder_with_added_tokens_gives_the_ids_of_transformers() {
    let golden: Value = serde_json::from_str(&fs::read_to_string(golden("tokenizer/added.json")).unwrap()).unwrap();
    let folders = golden["folders"].as_object().unwrap();
    assert_eq!(folders.len(), 7);
    for (name, of) in folders {
        let folder = folder(&of["files"]);
        if name == "gap" {
            let error = Tokenizer::open(folder.path(), 77).err().unwrap().to_string();
            assert!(
                error.contains("added_tokens.json: \"<cat>\" is said to have the id 700, but is 664\nhint: "),
                "{error}"
            );
            continue;
        }
        let tokenizer = open(&folder);
        for case in of["cases"].as_array().unwrap() {
            let expected: Vec<i64> = case["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
            assert_eq!(
                tokenizer.encode(case["text"].as_str().unwrap()).unwrap().ids,
                expected,
                "{name}: {}",
                case["text"]
            );
        }
    }
}

#[test]
fn an_added_token_without_an_embedding_is_an_error_only_where_it_is_used() {
    let folder = with_added(r#"{"<cat>": 664}"#);
    let tokenizer = open(&folder).for_embeddings(664);
    assert_eq!(tokenizer.encode("a cat").unwrap().ids[1], 320);
    let error = tokenizer.encode("a <cat>").unwrap_err();
    assert!(matches!(&error, Error::Beyond { id: 664, rows: 664, .. }), "{error}");
    assert!(open(&folder).for_embeddings(665).encode("a <cat>").is_ok());
}

#[test]
fn all_vectors_of_a_token_stand_where_it_is_written() {
    let mut tokenizer = open(&with_added(r#"{"<cat>": 664, "<cat>_1": 665, "<cat>_2": 666, "<dog>": 667}"#));
    let tokens = tokenizer.encode("a <cat> <dog>").unwrap();
    assert_eq!(tokens.ids[..7], [662, 320, 664, 665, 666, 667, 663]);
    assert_eq!(tokens.pieces, ["a", "<cat>", "<cat>", "<cat>", "<dog>"]);
    assert_eq!(tokenizer.add("<owl>", 2).unwrap(), 668);
    assert_eq!(tokenizer.encode("<OWL>a").unwrap().ids[..5], [662, 668, 669, 320, 663]);
    for (known, vectors) in [("<dog>", 1), ("<cat>", 3), ("a</w>", 1)] {
        let error = tokenizer.add(known, vectors).unwrap_err().to_string();
        assert!(error.contains(known) && error.contains("has this token already\nhint: "), "{error}");
    }
}

#[test]
fn chunks_have_start_and_end_each_and_a_short_prompt_is_one_chunk() {
    let tokenizer = open(&folder(&serde_json::json!({})));
    let chunks = Form { chunks: true, ..Form::default() };
    for short in ["", "a red circle", &"a ".repeat(75)] {
        assert_eq!(tokenizer.encode_as(short, chunks).unwrap(), tokenizer.encode(short).unwrap(), "{short}");
    }
    let long = format!("{}red circle", "a ".repeat(74));
    let tokens = tokenizer.encode_as(&long, chunks).unwrap();
    assert_eq!((tokens.ids.len(), tokens.lost.as_str()), (154, ""));
    assert_eq!(tokens.ids[74..82], [320, 521, 663, 662, 323, 639, 663, 663], "red is re and d");
    assert_eq!(tokens.pieces[73..], ["a", "re", "<|endoftext|>", "<|startoftext|>", "d", "circle"]);
    let mut short = tokenizer.encode("left").unwrap();
    tokenizer.fill(&mut short, tokens.ids.len());
    let empty = tokenizer.encode("").unwrap().ids;
    assert_eq!((short.ids.len(), &short.ids[77..]), (154, &empty[..]));
    assert_eq!(short.pieces, ["left"]);
}

#[test]
fn a_weight_of_one_changes_nothing_and_another_is_of_the_tokens_inside() {
    let tokenizer = open(&folder(&serde_json::json!({})));
    let weights = Form { weights: true, chunks: false };
    let plain = tokenizer.encode("a red circle (x)").unwrap();
    assert_eq!(tokenizer.encode_as(r"a (red:1.0) circle \(x\)", weights).unwrap(), plain);
    let tokens = tokenizer.encode_as("a (red:1.5) [circle]", weights).unwrap();
    assert_eq!(tokens.ids[..7], tokenizer.encode("a red circle").unwrap().ids[..7]);
    assert_eq!(tokens.pieces, ["a", "re", "d", "circle"]);
    assert_eq!(tokens.weights[..7], [1.0, 1.0, 1.5, 1.5, 1.0 / 1.1, 1.0, 1.0]);
    assert_eq!(tokens.weights.len(), 77);
}
