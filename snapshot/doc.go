// Package snapshot is the domain: datasets, manifests, directory trees, references, differences and history.
//
// A snapshot is a manifest. It names the root page of a directory; directories name the root pages of
// directories below them and the chunks of files. All of these are blobs of package store, named by a keyed hash
// of their bytes, so that what did not change is the same blob in every snapshot, and comparing two subtrees
// begins with comparing two IDs. This comment specifies the bytes of those blobs; everything marked "on disk;
// append only" in the code is part of it. The encodings of testdata/frozen never change.
//
// # Fields
//
// Nodes, attribute sets, manifests and summaries are records of tagged fields (store.Fields). A field is
//
//	uvarint(tag<<2 | critical<<1 | type)   type 0: uvarint value
//	                                       type 1: uvarint length, bytes
//
// A uvarint is little-endian base 128, as short as possible. Tags grow strictly within a record. Zero numbers
// and empty bytes are left out and mean the zero value. So the same values have one encoding, and IDs can be
// compared. A reader skips an unknown tag, or refuses the record if the critical bit is set ("store needs a
// newer snapfs"); version 1 sets it nowhere. Signed numbers are zigzag (0, -1, 1, -2 ... stand as 0, 1, 2, 3
// ...). A list inside a field is its items one after another, each with a uvarint length before it. Tags, kinds
// and bits are never reused.
//
// # Pages
//
// A page (store.KindNode) is a record of
//
//	1 kind     1 directory, 2 content of a file, 3 link tree
//	2 level    0 for a leaf, n for a page whose records name pages of level n-1; at most 8
//	3 owners   leaves of kinds 1 and 3: list of owners, in the order in which entries first use them, none twice
//	4 records  1 to 512: a list of entries (kinds 1 and 3), of items without length prefix (kind 2), or of branches (level > 0)
//
// An owner is a record of 1 uid, 2 gid, 3 user name, 4 group name. A branch names a page of the level below:
//
//	1 first name in it             directories
//	2 file system, 3 inode         link trees: the first key in it
//	4 page                         its ID, 32 bytes
//	5 entries                      directories: names in it and below them; link trees: records; content: absent
//	6 bytes                        directories: sizes of regular files that are not linked; link trees: size x names; content: length
//	7 linked                       directories: names whose entry is in the link tree
//	8 holes                        content: the part of bytes that is holes
//
// Sums that pass 2^64-1 stand as 2^64-1. Entries never exceed 2^31-1, lengths of content never 2^63-1. A page is
// believed only if its kind and level, its first key, its last key (below the next branch's first) and all its
// sums are those the page above stated; the root page of a directory against the totals in the directory's
// entry, that of content against size and holes of the file, that of a link tree against the manifest's count.
// So positions and offsets computed from sums are right whenever they are computed at all, and no set of pages
// leads in circles.
//
// # Where pages are cut
//
// Pages are a function of the set of names (inodes, chunk IDs) alone, not of what else entries hold and not of
// history. Records are taken in order. With n records in the open page, the next record begins a new page if n =
// 512, or if n >= 64 and
//
//	H(key) >> (7 x level) mod 128 = 0
//
// H is the first 8 bytes, little-endian, of BLAKE3 keyed with the store's page key; the key of an entry is its
// name, of a link record file system (4 bytes) and inode (8 bytes), both little-endian, of a chunk its ID; a
// hole has none and never begins a page by this rule. A branch has the key of the first record below it. When
// all records are in and the level has more than one page, the pages' branches form the level above, cut in the
// same way with the next 7 bits of the same hash; the one page of the highest level is the root. An empty
// directory has no page at all.
//
// Expected are about 190 records a page; a change of one name rewrites one page a level, sometimes two
// (measured: 2.0 of 158 pages with 30,000 names, 3.0 of 328 with 60,000). The hash is keyed because names and
// IDs may be chosen by others: without the key nobody can make pages that are all as small or as large as can
// be.
//
// # Entries
//
// An entry in a directory's leaf, ordered by name as bytes:
//
//	 1 name                    any bytes but NUL and "/"; not "." or ".."
//	 2 type                    1 file, 2 directory, 3 symlink, 4 fifo, 5 socket, 6 character device, 7 block device
//	 3 bits                    1: linked, 2: fresh (mtime or ctime was not older than a clock tick when read)
//	 4 file system + 1         where it is not that of the directory itself
//	 5 inode                   at the source
//	 6 mode                    07777
//	 7 flags                   FS_IOC_GETFLAGS
//	 8 owner                   row of the page's owners, from 0
//	 9 rdev                    devices
//	10 size                    regular files and symlinks
//	11, 12 mtime               seconds since 1970, signed; nanoseconds
//	13, 14 ctime
//	15, 16 btime
//	17 target                  symlinks
//	18 attributes              list of name, value, name, value ..., names in strict byte order; at most 1 KiB
//	19 attributes              ID of the set (store.KindXattrs), when it is larger: a record of 1 the same list
//	20 items                   regular files: at most 4 items
//	21 list                    ID of the root page of the content, when it has more
//	22 directory               ID of its root page; absent if it is empty
//	23, 24, 25 totals          directories: entries, bytes, linked as in a branch, over everything below it
//	26 names                   link records: how many names it has in this snapshot
//	27 owner                   an owner record, where there is no page to hold a table: in manifests
//	28 holes                   with 21: bytes of the content that are holes
//
// Fields that do not belong to the type are refused. A linked entry has only fields 1 to 5: what was linked
// elsewhere since would otherwise leave a stale twin in a shared page. File systems are rows of the manifest's
// table: device numbers change when a machine starts again, and unchanged directories must not. The file system
// of an entry is stored only where one is entered, so that a tree under another index is the same pages.
//
// # Content
//
// The content of a regular file is one list of items that covers it: uvarint(length<<1 | hole), and for a chunk
// its ID of 32 bytes. Lengths are not zero and no two holes touch. Up to four items stand in the entry, more in
// pages; the number of items alone decides. An empty file has none. A position in a file of terabytes is found
// by the lengths in the branches, SEEK_HOLE and SEEK_DATA by the holes.
//
// # Link tree
//
// The leaves of the link tree hold the records of linked inodes, ordered by file system and inode: entries
// without name, with field 4 against file system 0, and with the number of names in this snapshot. LinkWriter
// sorts them with spilling, since they are met in the order of names.
//
// # Positions
//
// Every name has a position: its rank in preorder, names in byte order, the root 0. It is found without any
// table: the first entry of a directory at position p has p+1, each next one the position of the last plus 1
// plus what is below that. Decoded pages keep these sums, so Tree.At goes down one page a level with a binary
// search in each. A record of the link tree has its rank there with bit 31 set (LinkBit), the same for all its
// names. Positions never change, and so serve as inode numbers.
//
// # Manifest
//
// The snapshot's ID is that of its manifest (store.KindManifest):
//
//	 1 dataset                 as named at the time
//	 2 name                    directory in the mount
//	 3 host, 4 user
//	 5 paths, 6 excludes       lists
//	 7, 8 start, 9, 10 end     zigzag seconds since 1970 + 1 (absent: not known), nanoseconds
//	11 UTC offset              signed seconds east
//	12 parent                  ID of a snapshot
//	13 root                    entry, with field 27; its file system against 0
//	14 single                  the root shows the contents of the one path
//	15 above                   list of entries: the directories above a single path, "/" first
//	16 link tree, 17 links     ID of its root page, records
//	18 file systems            list of records of 1 index, 2 mount path, 3 type, 4 UUID; by index
//	19, 20, 21 totals          entries, bytes with each linked name counted, linked names
//	22 errors                  list of records of 1 path, 2 error: the first 10,000, at most 1 MiB
//	23 error count             of all
//	24 found                   how changes were found: scan, journal, stream
//	25 tags                    list
//	26 program, 27 unstable, 28 started earlier than the parent
//	29, 30 origin              of an import: store, snapshot
//	31 ignore files, 32 exclude caches, 33 one file system, 34 exclude larger than, 35 only listed files
//
// The summary in a commit fact is what lists show without reading manifests: 1 host, 2 user, 3 paths, 4 parent,
// 5 and 6 end, 7 UTC offset, 8 entries, 9 bytes, 10 bytes stored, 11 errors, 12 single, 13 has extended
// attributes, 14 program; 15 to 21 activity, what the backup found against its parent: names 15 new, 16 changed, 17 unchanged,
// 18 removed, files 19 rewritten, 20 with novel content, 21 with dense content (package backup says what for); 30 kinds of extended attributes (1 ACLs, 2
// security.selinux, 4 others; none with 13: any).
//
// # What is measured
//
// On one core: encoding 0.3 us an entry, decoding 0.3 us (10 allocations a page), a lookup among 100,000 names
// 0.7 us and Tree.At the same when pages are cached. Decoded entries take about 400 bytes each, which the Cache
// counts.
package snapshot
