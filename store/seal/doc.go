/*
Package seal holds the keys of a store: slots that owners unlock, the bundle of keys they wrap, and the subkeys made from it.

# Files

The directory keys of a store holds

	slot-XXXXXXXX   one per slot; eight hexadecimal digits are its ID
	bundle-N        the bundle of keys; N counts from 1, the newest whole one is used
	lock            flock held while slots change
	.new-*          left by a crash; removed by the next change

Slot and bundle files are text of three lines, each ended by a newline, at most 256 KiB together:

	snapfs key slot 1            or: snapfs key bundle 1 (the version)
	{"id":"5f0a83d1", ...}       JSON in one line; bytes in base64
	sum 9c1f...                  SHA-256 of both lines before, 64 hexadecimal digits

A file whose sum does not match is damaged. Fields that a reader does not know are skipped; what it must not
skip gets a new version. A slot of a newer version or an unknown kind is listed and cannot be used.
Every file is written under a temporary name, synced, renamed, and the directory synced.

# Slots

All numbers are little-endian. Fields of a slot:

	id         the eight digits of the file's name
	set        16 random bytes, the same in every slot and bundle of a store
	kind       password, key-file, age, clear
	role       absent, or "admin"
	label      what the owner calls it
	created    RFC 3339
	salt       32 random bytes                              (password, key-file)
	argon2id   {"time":3,"memory_kib":65536,"threads":4}    (password)
	recipient  age1..., ssh-ed25519 ..., ssh-rsa ...        (age)
	age        an age file that encrypts the slot's own key (age)
	clear      the slot's own key                           (clear)
	nonce      12 random bytes
	wrapped    AES-256-GCM under the slot's own key

The slot's own key has 32 bytes:

	password   Argon2id version 1.3 (RFC 9106) of the password's bytes and salt, with the parameters in the slot. New slots
	           use the second recommended option of RFC 9106. Readers refuse more than 1 GiB or 16 passes over that much.
	key-file   HKDF-SHA256(key file of exactly 32 bytes, salt, "snapfs 1 slot key-file")
	age        random, encrypted to one age X25519, hybrid, ssh-ed25519 or ssh-rsa recipient
	clear      random, in clear

wrapped holds the slot key (32 bytes), in admin slots followed by the admin key (32 bytes). Its additional data is
"snapfs 1 slot", a zero byte, then set, id, kind and role, each after its length as 4 bytes. So a slot cannot be
passed off as another one, as one of another store, or as an admin's. A slot whose set is that of no bundle, while that of
another slot is, belongs to another store: it is listed and cannot be used.

# Bundle

Fields of a bundle:

	set        as in the slots
	number     N of the file's name
	keys       {"nonce":12 bytes,"sealed":...}: AES-256-GCM under the slot key
	admin      the same under the admin key; absent in stores without an admin slot

The plaintext of both parts is a JSON object from names to keys of 32 bytes. The additional data is "snapfs 1 bundle", a zero
byte, set, number (4 bytes; 0 for the admin part) and "keys" or "admin". A reader keeps names it does not know.

	content            blob IDs and cuts
	volume             volumes
	index              values and names in the index
	mac                small files
	admin-sign-public  Ed25519 public key that belongs to the admin part's sign
	sign               (admin part) Ed25519 seed
	append-only        in append-only stores: the value of admin-sign-public when the store was made. It marks the store,
	                   never changes, and is the key that signatures of facts are checked with (package store)

# Subkeys

Each subkey is HKDF-SHA256(bundle key, salt, info), 32 bytes:

	bundle key  salt       info                             for
	content     none       "snapfs 1 blob id " kind(1 byte)  keyed BLAKE3-256 that names blobs
	content     none       "snapfs 1 gear"                   gear table of the chunker
	content     none       "snapfs 1 page cuts"              hash that cuts pages
	volume      volume ID  "snapfs 1 volume"                 AES-256-GCM of one volume
	index       none       "snapfs 1 index values"           AES-256-GCM of index values
	index       none       "snapfs 1 index names"            keyed hashes that stand for names
	mac         none       "snapfs 1 mac"                    keyed BLAKE3-256 over small files

# Archive sets

A set of archive volumes has a bundle of its own: its content key is that of the store, so that blobs have the same IDs and are cut
alike, all other keys are new. Labels hold slot files one after the other and a bundle file: either those of the store, and the set's
keys sealed under it, or slots and bundle made for the set. Sealed keys are 12 random bytes of nonce and AES-256-GCM of the JSON object
of a bundle's keys, under HKDF-SHA256(the store's volume key, id of the set, "snapfs 1 archive set"), with "snapfs 1 archive set" and the
id as additional data. So who opens the set alone learns no key that decrypts a volume of the store.

# Paper

A sheet is what Export gives (the files of slots and bundle one after the other) under DEFLATE (RFC 1951), cut into numbers of 11 bits, the
highest first, with zeros at the end, each written as the word of the BIP-39 English list with that place, counted from 0. Lines of

	number  seven words  check       the last one may have fewer
	end  number of lines  three checks

The check of a line is the highest 11 bits of SHA-256("snapfs 1 key sheet", number (2 bytes, big-endian), each word's place (2 bytes,
big-endian)); the checks at the end are the highest 33 bits of the same over all words but the checks, with number 0. So a slip
of the pen is found in its line (1 in 2,048 passes), a line in a wrong place as well, and what passes by chance at the end, or by the sums of the
files. A reader passes over lines that begin otherwise; the first four letters of a word are enough.

# What slots protect, and what they do not

Who has the directory but no secret cannot learn the keys: a password costs Argon2id per guess, the other kinds cannot be
guessed. Who can write the directory can remove slots and so lock owners out; keep an export.

Removing or changing a slot stops its secret from opening this directory from then on, and nothing more. It does not
revoke keys that somebody already unwrapped with it; it does not reach slots in copies of the directory, on targets and in
the labels of archives written before; and it changes no key: the store stays sealed under the bundle. A clear slot
that was there once has given the keys away for good. Against somebody who knew a secret and has old
copies, only a new store helps.
*/
package seal
