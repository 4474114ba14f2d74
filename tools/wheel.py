"""Checks, unpacks and changes a wheel, which is a zip file, with the standard library alone. tools/setup and
tools/package call it.

python3 tools/wheel.py check WHEEL SHA256                  exit status 0 if that is the file's hash
python3 tools/wheel.py unpack WHEEL [MEMBER DESTINATION].. a MEMBER that ends in "/" is a folder
python3 tools/wheel.py replace WHEEL MEMBER FILE           puts a file in the place of a member, and into RECORD
"""

import base64
import csv
import hashlib
import io
import os
import shutil
import sys
import zipfile


def check(wheel, sha256):
    digest = hashlib.sha256()
    with open(wheel, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return 0 if digest.hexdigest() == sha256 else 1


def unpack(wheel, *pairs):
    with zipfile.ZipFile(wheel) as archive:
        for member, destination in zip(pairs[::2], pairs[1::2]):
            if not member.endswith("/"):
                write(archive, member, destination)
                continue
            for name in archive.namelist():
                if name.startswith(member) and not name.endswith("/"):
                    write(archive, name, os.path.join(destination, name[len(member) :]))
    return 0


def replace(wheel, member, path):
    with open(path, "rb") as file:
        data = file.read()
    new = wheel + ".new"
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(new, "w") as archive:
        if member not in old.namelist():
            sys.exit(f"{wheel}: has no {member}")
        for about in old.infolist():
            content = old.read(about)
            if about.filename == member:
                content = data
            elif about.filename.endswith(".dist-info/RECORD"):
                content = recorded(content, member, data)
            archive.writestr(about, content)
    os.replace(new, wheel)
    return 0


def recorded(record, member, data):
    """The RECORD of a wheel, with the hash and the size that a member has now."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    lines = list(csv.reader(io.StringIO(record.decode())))
    lines = [[member, f"sha256={digest}", len(data)] if line[0] == member else line for line in lines]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def write(archive, member, destination):
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    with archive.open(member) as source, open(destination, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


if __name__ == "__main__":
    sys.exit({"check": check, "unpack": unpack, "replace": replace}[sys.argv[1]](*sys.argv[2:]))
