// Package volume is the container: self-describing append-only files that hold sealed frames.
//
// A volume can be copied, checked, counted and repaired without any key, and listed and read with one; nothing but the
// volume itself is needed for either. This comment is the specification of what is on disk, format version 1. What
// blobs and facts mean is said in package store, how keys are made in package seal.
//
// # Conventions
//
// Integers are little-endian. "uvarint" is the base-128 encoding of encoding/binary, at most 10 bytes, and minimal: a
// reader refuses a longer form of the same number. xxh3 is XXH3 with 64 bits; "seeded" means with the seed that is the
// exclusive or of the two little-endian 64-bit halves of the volume id. Bytes called zero are written as zero and a
// reader refuses others, unless padding. Widths in the drawings are in bytes.
//
// # Volume
//
//	+-------+-------+-------+     +-------+----------+-----+-------+---------+
//	| label | frame | frame | ... | frame | contents | ... | label | trailer |
//	| n*4Ki |       |       |     |       |  frame   |     | frame |   80    |
//	+-------+-------+-------+     +-------+----------+-----+-------+---------+
//	0                                     ^ Contents       ^ Label           Size
//
// Everything up to "contents" is written while the volume is open, the rest when it is sealed. Frames follow each other
// without space between them. Nothing is ever overwritten, and a volume is written only by the process that created it:
// what a crash leaves open is read by scanning and never continued, because a sequence number might be used twice under
// the same key. Parity frames may stand anywhere between other frames, also between and behind the contents frames and
// behind the repeated label; readers that do not need them step over them.
//
// # Label
//
//	  0  512  text for people, printable ASCII, padded with spaces, the last byte a newline
//	512    8  "snapfsVL"
//	520    2  format version: 1
//	522    2  zero
//	524    4  length of the label: a multiple of 4096, at most 16 MiB
//	528   16  volume id: random
//	544    4  n, length of the fields
//	548    n  tagged fields
//	       -  padding
//	end-8  8  seeded xxh3 of everything before
//
// The text begins with "snapfs volume, format " and says what the fields say; the fields are what counts. A tagged
// field is uvarint(tag<<2 | critical<<1 | type), then for type 0 a uvarint, for type 1 a uvarint length and that many
// bytes. Tags strictly increase. A reader skips an unknown tag, or refuses the volume if its critical bit is set.
//
//	 1 bytes   store id, 16 bytes
//	 2 number  kind: 1 data, 2 metadata, 3 journal, 4 archive
//	 3 number  time of creation: Unix nanoseconds as a two's complement 64-bit number
//	 4 bytes   program that made it
//	10 bytes   archive set id, 16 bytes; the tags below only together with it
//	11 number  number of the volume in the set, from 1
//	12 number  level: 1 full, 2 incremental, 3 differential
//	13 bytes   id of the parent set, 16 bytes
//	14 bytes   pool
//	15 bytes   names of datasets: each a uvarint length and that many bytes
//	16 bytes   names of hosts, likewise
//	17 bytes   key slots
//	18 bytes   sealed key bundle
//	19 bytes   the set's own bundle, sealed under a key of the store's bundle
//	20 bytes   name of the set
//	21 bytes   in volumes with parity over the other volumes of the set: what it covers (package archive)
//
// Fields without content are left out. The label is repeated as the payload of a frame of kind 5, so that a volume whose first
// sectors are lost is still known: its trailer gives the id and says where.
//
// # Frame
//
//	 0   4  magic "snpF"
//	 4   1  format version: 1
//	 5   1  kind
//	 6   2  zero
//	 8  16  volume id
//	24   4  sequence number: 0, 1, 2 ... in order of offset
//	28   4  n, length of the payload as stored: at most 96 MiB
//	32   8  random; zero in frames of kind 4
//	40   8  xxh3 of the payload as stored, not seeded
//	48   8  seeded xxh3 of bytes 0 to 47
//	56   n  payload
//
// Kinds: 1 blobs, 2 facts, 3 contents table, 4 parity, 5 repeated label, 6 record of an archive set, 7 parity over the volumes of an
// archive set (package archive says what is in 6 and 7). The payloads of 4, 5 and 7 are in clear. All
// others are sealed with AES-256-GCM under the volume's key: the nonce is bytes 24 to 27 and 32 to 39 of the header,
// the additional data bytes 0 to 39, and the 16 bytes of the tag end the payload. Because the sequence number is in the
// nonce and spent before sealing begins, a nonce cannot repeat in a volume; the random half covers a file system or
// a virtual machine that was rolled back under a running writer.
//
// A kind unknown to a reader is stepped over, or the volume refused if its highest bit (0x80) is set.
//
// # Blobs
//
// The plaintext of a frame of kind 1:
//
//	codec      1        0 none, 1 zstd, 2 s2 (block format)
//	raw        uvarint  length of the body before compression: at most 64 MiB
//	count      uvarint  blobs
//	count times:
//	  kind     1        of the blob; see package store
//	  id       32       keyed BLAKE3-256 of the blob
//	  length   uvarint
//	body       rest     compressed as the codec says
//
// The blobs lie one after another in the raw body, so their lengths add up to raw. A zstd body is one frame with a
// single segment and the content size in its header, without checksum. A reader compares the ID it wants with the
// table: a wrong address gives an error, never wrong data. A large blob has a frame of its own, for 41 bytes of table
// and 72 of header and tag; small ones share frames.
//
// # Contents table
//
// When a volume is sealed, frames of kind 3 list all frames before them, one part each, in order:
//
//	part       uvarint  number of this part, from 0
//	parts      uvarint  how many there are: at least 1
//	base       uvarint  where the last frame listed by the part before ended; in part 0 the length of the label
//	count      uvarint  frames listed here
//	count times:
//	  gap      uvarint  bytes between the end of the frame listed before (or base) and this frame
//	  kind     1        of the frame
//	  stored   uvarint  length of the frame, header included
//	  blobs    uvarint  rows; 0 unless the frame's kind is 1
//	  rows              as in the blob table
//
// # Trailer
//
//	 0   8  "snapfsTR"
//	 8   2  format version: 1
//	10   2  zero
//	12   4  frames in the volume, of all kinds
//	16  16  volume id
//	32   8  size of the volume, trailer included
//	40   8  offset of the first contents frame
//	48   8  offset of the frame that repeats the label
//	56   8  rows of the contents table, blobs
//	64   8  zero
//	72   8  seeded xxh3 of bytes 0 to 71
//
// A volume without a whole trailer at its end counts as not sealed and is read by scanning.
//
// # Scanning
//
// Each header says where the next one is. Where there is none of this volume, with a right sum, the scan searches for
// the magic: from the end of the last frame if its payload is whole, else from its header on, as bytes may have been
// lost inside. A header found by searching counts if its sum is right and its sequence number is higher than the last
// one's (blocks of parity may equal blocks of data). The seed keeps the frames of another volume, which lies inside this one in
// clear, from being taken for its own. Numbers that are missing tell how many frames were lost. Bytes behind the last
// whole frame are a torn tail.
//
// # Parity
//
// A parity set protects a span of the volume: any run of bytes that lies before the set, the label, frames of all kinds and
// other parity among them. The span is cut into blocks, the last filled up with zeros; block i belongs to group i mod G
// and is number i / G in it; blocks that would lie beyond the span are zeros. Each group has m parity blocks by a
// systematic Reed-Solomon code over GF(2^8) (polynomial 0x11d): byte by byte, parity block j is the sum over n of
// (block n of the group) / ((k+j) xor n), a Cauchy matrix, k+m at most 256. Any k of a group's k+m blocks give the others. Neighbouring
// blocks lie in different groups. A set is m+2 frames of kind 4 that follow each other without space: part 0 and part
// m+1 hold the same digests of all blocks, parts 1 to m one row of parity blocks each, one for every group. Payload:
//
//	 0   1  layout: 1; others are stepped over
//	 1   1  b: blocks are 2^b bytes, b from 9 to 20
//	 2   2  k, data blocks of a group
//	 4   2  m, parity blocks of a group
//	 6   2  G, groups
//	 8   8  offset of the span
//	16   8  length of the span: at most k*G*2^b
//	24   8  offset of the set's first frame
//	32   4  sequence number of the set's first frame
//	36   2  number of this part
//	38   2  t: 80 if the set is the last thing before the trailer, else 0
//	40   8  seeded xxh3 of bytes 0 to 39
//	48   t  copy of the trailer
//	     -  parts 0 and m+1: the seeded xxh3 of each block of the span, then of each parity block, row by row, 8 each;
//	        parts 1 to m: G parity blocks
//
// Parity blocks of a set take at most 64 MiB, and so do its digests. The 8 random bytes in the header of a parity frame are zero. So
// everything about a set follows from the head of one of its frames and the bytes of the span: it is made again, byte for
// byte, where it is damaged. The digests say which blocks are bad, as the code needs to know. They stand at both ends of
// the set so that a burst that reaches one cannot reach the other, and count one by one: of a damaged copy the rest is used.
//
// Which spans a writer chooses is not part of the format. This one makes, at 3 %:
//
//   - for each full 64 MiB of the volume, counted from its start: b 12, k 128, m 4, G 128; 2 MiB and 2 x 132 KiB of digests,
//     3.5 %. The set follows as soon as all of the span is written, in the span after it, which covers it in turn.
//   - for what is left when the volume is sealed, contents table and repeated label included, a set behind that label. Of n
//     blocks, k is about 2*sqrt(n) but 16 to 128, G = n/k; blocks are 512 bytes below 256 KiB, 1 KiB below 1 MiB, else
//     4 KiB. Of 16 MiB that is 3 %, of 4 MiB 6 %, of 1 MiB 12 %, of the smallest volume 8 KiB. In a volume of 64 MiB or
//     more G is 128 for this span too, or as many as it has blocks.
//   - for frames that have been committed and whose volume stays open, sets over what is new (Writer.Protect): at most 128 KiB
//     and an eighth of the volume. The full span covers the same bytes later, as one span.
//
// Other percentages change m: it is the percentage of 128, at most 32 for 25 %; above 4 G is 512/m, so that a span is shorter
// and its parity still 2 MiB. Parity is made of what is stored; repair needs no key, and nothing is sealed again.
//
// # What heals
//
// Lost are the blocks that differ from both their digests; a group heals while it has lost no more than m blocks, its parity blocks
// counted. At 3 % and with a full span, or in the last span of a volume of at least 64 MiB:
//
//   - One burst of up to 2,093,057 bytes anywhere in a span: it touches at most 512 blocks = G*m neighbours, 4 of each group.
//   - One burst of up to 1 MiB anywhere in the volume: over the end of a span, its digests and its rows: 257 blocks are at
//     most 3 of a group; rows are found through the head of any part that is left, even without their own headers.
//     A set whose span is whole is made again. Between the two copies of the digests lie 2 MiB.
//   - Shorter spans: in the same way bursts up to half their parity: 1 MiB from 32 MiB on, 256 KiB at 16 MiB, 128 KiB at 4 MiB, 64 KiB
//     at 1 MiB, and one page of 4 KiB of any volume, be it 9 KiB long.
//   - Scattered flipped bytes: each costs a block, and only the fifth in one of 128 groups is too many. So 4 always heal;
//     20 at random in a full span do not with a chance of 1 in 20,000, 60 of 1 in 70.
//   - The label: it is in the first span; and from its repetition (and that from the label) without any parity.
//   - Trailer, contents table, repeated label: in the last span, the trailer from its copies in the last set.
//   - A volume cut anywhere behind the first digests of its last set: rows, digests and trailer are made again.
//   - Bytes inserted or removed: numbers and lengths of the frames say where those after belong, where frames are missing the next parity
//     frame or the trailer says so; bytes that are missing then count as lost blocks. At most 64 MiB.
//   - Unreadable sectors are lost blocks.
//
// What does not heal and is reported: more than that; the end of a volume that was cut before its last set (what lies
// before stays protected by the sets before); the tail of a volume that was never sealed, up to 64 MiB, but for what Protect
// was called for. A contents table, label frame or trailer that is beyond repair costs no blob: readers scan, and the volume is written
// anew with the key.
//
// # What a crash leaves
//
//   - Before the label is whole: a file that is no volume; it never held anything.
//   - While frames are written: whole frames and a torn tail; as writes are parallel, also frames missing between whole
//     ones, and headers whose payload is not theirs. Up to the last Sync everything is whole. Readers scan with payloads.
//   - While parity is written: the same; a set of which parts are missing protects as far as it goes.
//   - While it is sealed: the same, with contents frames among the rest. Without a whole trailer they do not count.
//   - After Seal has returned: a whole volume.
//   - A write or sync that fails closes the volume for good: the kernel may have dropped what it could not write while
//     still showing it from memory. It is cut back to what was synced before, or, if a write failed, to what a sync of the
//     frames before it made certain. Of a journal (Options.Strict) only the former stays.
//
// # What protects against what
//
//   - The sums of headers, payloads, label and trailer find accidents: rot, lost writes, cut or mixed up files. They
//     need no key, and anyone can compute them.
//   - The seal finds changes made on purpose: to a payload, its kind, its volume, its number. Without the key nobody can
//     make a frame, read one, or tell what kinds of blobs it holds. It hides neither the lengths of frames nor their times of writing.
//   - The contents table is sealed, so rows cannot be added or changed. That a whole tail was cut off a volume that was never
//     sealed, or a whole volume taken away or put back in an older state, shows only against the facts of the journal, which name
//     volumes and their lengths.
//   - Label and trailer are not sealed. Whoever changes them can make a volume unreadable, not make it say something else:
//     a wrong id gives a wrong key, and all that matters is sealed under it.
//   - A blob's ID is a hash of its content. Reading compares the ID that was asked for with the table, not with the
//     content, which the seal covers; who hashes again, as facts are when they are read, covers errors of the code itself.
//
// # Versions
//
// The version counts changes that an older reader must not overlook. Every later version keeps the first 56 bytes of a
// frame, bytes 512 to 547 and the sum of a label, and the trailer's length, magic, version, id and sum, so that "newer" can be told from
// "damaged". What may be ignored comes as new fields, kinds or flags without the critical bit. Constants that end up on disk are
// marked "on disk; append only" in the code.
//
// # Measured
//
// One core of a shared two-core machine: sealing and appending 512 KiB 3,300 MB/s, opening 3,500, scanning with payloads 10,000. 256 MiB
// in pieces of 512 KiB with one sync at the end: 1,800 MB/s written behind, 560 with plain buffered writes.
//
// The same machine, busy with other things: parity of 3 % with its digests 4,100 MB/s in frames of 512 KiB, 1,900 in frames of
// 16 KiB; Check 6,300; Repair of 69 MiB with a burst of 1 MiB 0.09 s. A first backup of 3.6 GB of /usr/lib took 5 % more
// processor time with parity than without (30.3 against 28.9 s) and 3.9 % more bytes; a backup of one small file stores
// 50 KB instead of 27. Of 627 damaged volumes of 21 KB to 77 MB, in 19 patterns, all healed (TestDamagePatternsHeal).
package volume
