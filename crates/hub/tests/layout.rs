//! What is in the cache after a download, and what is found there without one.

mod common;

use common::{COMMIT, Client, MODEL, Server, WEIGHTS, id, tree};
use latentrace_hub::{Error, Hash, Hub, Id, Listed, Settings};
use std::collections::BTreeMap;
use std::fs;

/// The tree that Python makes of the server's model.
fn pythons(server: &Server, revision: &str) -> BTreeMap<String, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for file in &server.state().files {
        let up = "../".repeat(file.name.split('/').count() + 1);
        tree.insert(format!("models--owner--model/blobs/{}", file.etag()), file.bytes.clone());
        let link = format!("-> {up}blobs/{}", file.etag());
        tree.insert(format!("models--owner--model/snapshots/{COMMIT}/{}", file.name), link.into_bytes());
        tree.insert(format!(".locks/models--owner--model/{}.lock", file.etag()), Vec::new());
    }
    tree.insert(format!("models--owner--model/refs/{revision}"), COMMIT.into());
    tree
}

/// Puts a tree on the disk.
fn put(folder: &std::path::Path, tree: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in tree {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match bytes.strip_prefix(b"-> ") {
            Some(target) => std::os::unix::fs::symlink(std::str::from_utf8(target).unwrap(), path).unwrap(),
            None => fs::write(path, bytes).unwrap(),
        }
    }
}

#[test]
fn a_download_makes_the_tree_that_python_makes() {
    let server = Server::start();
    let client = Client::new(&server);
    let snapshot = client.all().unwrap();
    assert_eq!(tree(client.cache()), pythons(&server, "main"));
    assert_eq!((snapshot.folder(), snapshot.commit()), (&*client.repo().join("snapshots").join(COMMIT), COMMIT));
    for file in &server.state().files {
        assert!(snapshot.has(&file.name), "{}", file.name);
        assert_eq!(fs::read(snapshot.folder().join(&file.name)).unwrap(), file.bytes, "{}", file.name);
    }
    assert!(!snapshot.has("other") && !snapshot.has("../../refs/main") && !snapshot.has("unet"));
}

#[test]
fn refs_are_made_for_names_and_not_for_commits() {
    let server = Server::start();
    let client = Client::new(&server);
    client.some("refs/pr/1", |_| true).unwrap();
    assert_eq!(tree(client.cache()), pythons(&server, "refs/pr/1"));
    let client = Client::new(&server);
    let snapshot = client.some(COMMIT, |_| true).unwrap();
    assert!(!client.repo().join("refs").exists());
    assert_eq!(client.hub().cached(&id(), COMMIT).unwrap(), Some(snapshot));
    assert_eq!(client.hub().cached(&id(), "main").unwrap(), None);
}

#[test]
fn only_what_is_chosen_is_downloaded_and_nothing_twice() {
    let server = Server::start();
    let client = Client::new(&server);
    let snapshot = client.weights().unwrap();
    assert!(snapshot.has(WEIGHTS) && !snapshot.has("model_index.json"));
    assert_eq!(server.sent().len(), 1);
    client.all().unwrap();
    assert_eq!(server.sent().iter().filter(|(path, ..)| path.contains("diffusion_pytorch_model")).count(), 1);
    assert_eq!(server.sent().len(), 4, "the empty file needs no request");
    client.all().unwrap();
    assert_eq!(server.sent().len(), 4);
}

#[test]
fn a_name_that_is_not_listed_is_told_with_the_nearest() {
    let server = Server::start();
    let client = Client::new(&server);
    let mut choose = |_: &[Listed]| Ok::<_, Error>(vec!["model_indx.json".to_owned()]);
    let error = client.hub().fetch(&id(), "main", &mut choose, &mut ()).unwrap_err().to_string();
    assert_eq!(
        error,
        "owner/model: model_indx.json: not among the files of revision main\nhint: did you mean model_index.json?"
    );
    assert!(!client.cache().exists());
}

#[test]
fn the_error_of_who_chooses_comes_back() {
    #[derive(Debug)]
    enum Theirs {
        Ours(Error),
        Nothing(usize),
    }
    impl From<Error> for Theirs {
        fn from(error: Error) -> Theirs {
            Theirs::Ours(error)
        }
    }
    let server = Server::start();
    let client = Client::new(&server);
    let mut choose = |files: &[Listed]| Err(Theirs::Nothing(files.len()));
    let error = client.hub().fetch(&id(), "main", &mut choose, &mut ()).unwrap_err();
    assert!(matches!(error, Theirs::Nothing(5)), "{error:?}");
    let error = client.hub().fetch(&id(), "no", &mut choose, &mut ()).unwrap_err();
    assert!(matches!(error, Theirs::Ours(Error::UnknownRevision { .. })), "{error:?}");
}

#[test]
fn a_cache_that_python_made_is_found_without_a_request() {
    let server = Server::start();
    let client = Client::new(&server);
    put(client.cache(), &pythons(&server, "main"));
    for revision in ["main", COMMIT] {
        let snapshot = client.hub().cached(&id(), revision).unwrap().unwrap();
        assert_eq!(snapshot.commit(), COMMIT);
        assert_eq!(snapshot.files().unwrap().len(), 5);
    }
    assert_eq!(client.hub().cached(&id(), "other").unwrap(), None);
    assert_eq!(client.hub().cached(&Id::parse("owner/other").unwrap(), "main").unwrap(), None);
    assert_eq!(server.state().connections, 0);
    client.all().unwrap();
    assert_eq!(server.state().connections, 1, "the list of files");
    assert_eq!(server.sent().len(), 0, "and no file");
}

#[test]
fn revisions_cannot_leave_the_cache() {
    let server = Server::start();
    let client = Client::new(&server);
    fs::create_dir_all(client.repo().join("refs")).unwrap();
    fs::write(client.cache().join("secret"), COMMIT).unwrap();
    for revision in ["../../secret", "/etc/passwd", "..", ""] {
        let error = client.hub().cached(&id(), revision).unwrap_err();
        assert!(matches!(error, Error::RevisionName { .. }), "{revision}: {error}");
        assert!(matches!(client.some(revision, |_| true).unwrap_err(), Error::RevisionName { .. }), "{revision}");
    }
    assert_eq!(server.state().connections, 0);
    fs::write(client.repo().join("refs/main"), "../../..").unwrap();
    let error = client.hub().cached(&id(), "main").unwrap_err().to_string();
    assert!(error.contains("refs/main: \"../../..\" is not a commit\nhint: delete it"), "{error}");
}

#[test]
fn blobs_and_copies_that_are_there_are_not_downloaded_again() {
    let server = Server::start();
    let client = Client::new(&server);
    let (weights, config) = (server.file(WEIGHTS), server.file("unet/config.json"));
    let blobs = client.repo().join("blobs");
    let snapshot = client.repo().join("snapshots").join(COMMIT);
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(snapshot.join("unet")).unwrap();
    fs::write(blobs.join(weights.etag()), &weights.bytes).unwrap();
    fs::write(snapshot.join("unet/config.json"), &config.bytes).unwrap();
    fs::write(snapshot.join("model_index.json"), "{}").unwrap();
    client.some("main", |name| name == WEIGHTS || name.ends_with(".json")).unwrap();
    let sent: Vec<String> = server.sent().into_iter().map(|(path, ..)| path).collect();
    assert_eq!(sent, [format!("/{MODEL}/resolve/{COMMIT}/model_index.json")], "the copy with other content");
    assert!(fs::read_link(snapshot.join(WEIGHTS)).is_ok());
    assert!(fs::read_link(snapshot.join("unet/config.json")).is_err(), "the right copy stays");
    assert_eq!(fs::read(snapshot.join("model_index.json")).unwrap(), server.file("model_index.json").bytes);
}

#[test]
fn a_link_to_another_blob_is_replaced_and_an_absolute_one_stays() {
    let server = Server::start();
    let client = Client::new(&server);
    let snapshot = client.all().unwrap();
    let link = |name: &str, target: &std::path::Path| {
        fs::remove_file(snapshot.folder().join(name)).unwrap();
        std::os::unix::fs::symlink(target, snapshot.folder().join(name)).unwrap();
    };
    let blob = client.repo().join("blobs").join(server.file(WEIGHTS).etag());
    link("model_index.json", &blob);
    link(WEIGHTS, &blob);
    client.all().unwrap();
    let index = server.file("model_index.json");
    assert_eq!(fs::read(snapshot.folder().join("model_index.json")).unwrap(), index.bytes);
    assert_eq!(fs::read_link(snapshot.folder().join(WEIGHTS)).unwrap(), blob);
    assert_eq!(server.sent().len(), 4, "nothing is downloaded again");
}

#[test]
fn a_blob_of_another_size_is_replaced() {
    let server = Server::start();
    let client = Client::new(&server);
    let weights = server.file(WEIGHTS);
    let blob = client.repo().join("blobs").join(weights.etag());
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, &weights.bytes[..7]).unwrap();
    client.weights().unwrap();
    assert_eq!(fs::read(&blob).unwrap(), weights.bytes);
}

#[test]
fn a_link_whose_blob_was_deleted_is_not_a_file() {
    let server = Server::start();
    let client = Client::new(&server);
    let snapshot = client.weights().unwrap();
    fs::remove_file(client.repo().join("blobs").join(server.file(WEIGHTS).etag())).unwrap();
    assert!(!snapshot.has(WEIGHTS));
    assert_eq!(snapshot.files().unwrap(), []);
    assert!(client.weights().unwrap().has(WEIGHTS), "it is downloaded again");
}

#[test]
fn offline_opens_no_connection() {
    let server = Server::start();
    let mut client = Client::new(&server);
    client.settings.offline = true;
    let error = client.all().unwrap_err().to_string();
    let cache = client.cache().display();
    assert_eq!(
        error,
        format!(
            "owner/model: revision main is not in the cache {cache}, and downloads are off\nhint: download it without \
             --offline and without HF_HUB_OFFLINE, or set HF_HUB_CACHE to a cache that has it"
        )
    );
    put(client.cache(), &pythons(&server, "main"));
    assert!(client.hub().is_offline());
    let snapshot = client.all().unwrap();
    let mut listed = Vec::new();
    let mut choose = |files: &[Listed]| {
        listed = files.to_vec();
        Ok::<_, Error>(vec!["other.json".to_owned()])
    };
    let error = client.hub().fetch(&id(), "main", &mut choose, &mut ()).unwrap_err();
    assert!(matches!(error, Error::NotListed { .. }), "{error}");
    assert_eq!(listed, snapshot.files().unwrap());
    let weights = listed.iter().find(|file| file.name == WEIGHTS).unwrap();
    assert_eq!((weights.bytes, &weights.hash), (300_000, &Hash::Sha256(server.file(WEIGHTS).etag())));
    assert_eq!(server.state().connections, 0);
}

#[test]
fn the_cache_is_listed() {
    let server = Server::start();
    let client = Client::new(&server);
    assert_eq!(client.hub().list().unwrap(), [], "no cache yet");
    client.all().unwrap();
    let other = "ab".repeat(20);
    fs::create_dir_all(client.cache().join("models--a--b/snapshots").join(&other)).unwrap();
    fs::create_dir_all(client.cache().join("models--gpt2")).unwrap();
    fs::create_dir_all(client.cache().join("datasets--a--b")).unwrap();
    fs::write(client.cache().join("models--x--y"), "a file").unwrap();
    fs::create_dir_all(client.repo().join("refs/refs/pr")).unwrap();
    fs::write(client.repo().join("refs/refs/pr/1"), COMMIT).unwrap();
    fs::write(client.repo().join("refs/old"), &other).unwrap();
    let listed = client.hub().list().unwrap();
    let ids: Vec<&str> = listed.iter().map(|repo| repo.id.as_str()).collect();
    assert_eq!(ids, ["a/b", MODEL]);
    let commits = |place: usize| -> Vec<(&str, &[String])> {
        listed[place].revisions.iter().map(|found| (found.commit.as_str(), &found.names[..])).collect()
    };
    assert_eq!(commits(0), [(other.as_str(), &[][..])]);
    assert_eq!(commits(1), [(COMMIT, &["main".to_owned(), "refs/pr/1".into()][..])]);
    let refs = 3 * 40;
    let blobs: usize = server.state().files.iter().map(|file| file.bytes.len()).sum();
    assert_eq!((listed[0].bytes, listed[1].bytes), (0, (blobs + refs) as u64), "links have no bytes");
}

#[test]
fn a_cache_that_is_read_only_can_be_used_and_says_so_when_it_must_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let client = Client::new(&server);
    client.weights().unwrap();
    let all = ["", ".locks/models--owner--model", "models--owner--model", "models--owner--model/blobs"];
    let may_write = |mode| {
        for folder in all {
            fs::set_permissions(client.cache().join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    may_write(0o555);
    let found = client.hub().cached(&id(), "main").unwrap().unwrap();
    assert_eq!(client.weights().unwrap(), found, "nothing is to be written");
    // An administrator can write everywhere, and then there is nothing to refuse.
    let is_free = fs::write(client.cache().join("probe"), "").is_ok();
    let all = client.all();
    may_write(0o755);
    match all {
        Err(Error::ReadOnly { path, .. }) => assert!(path.starts_with(client.cache()), "{}", path.display()),
        other => assert!(is_free && other.is_ok(), "{other:?}"),
    }
}

#[test]
fn a_cache_with_a_relative_path_works() {
    // The tests of a crate run in its folder; below target, nothing is in anybody's way.
    let server = Server::start();
    let mut client = Client::new(&server);
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = tempfile::tempdir_in(target).unwrap();
    let here = std::env::current_dir().unwrap();
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    client.settings.cache = up.join(folder.path().strip_prefix("/").unwrap());
    let snapshot = client.weights().unwrap();
    assert!(snapshot.has(WEIGHTS) && snapshot.folder().is_absolute());
}

#[test]
fn settings_come_from_the_environment_alone() {
    let settings = Settings::from_env(|name| match name {
        "HF_HUB_CACHE" => Some("/somewhere".into()),
        "HF_HUB_OFFLINE" => Some("1".into()),
        _ => None,
    })
    .unwrap();
    let hub = Hub::new(&settings).unwrap();
    assert_eq!((hub.cache().to_str(), hub.is_offline()), (Some("/somewhere"), true));
}
