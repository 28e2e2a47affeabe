// Package chunker says where to cut a byte stream into chunks: pure functions over keyed gear tables.
//
// The method is FastCDC with normalised chunking (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking
// Approach for Data Deduplication", USENIX ATC 2016). A chunk ends behind the first byte where the gear hash
//
//	h(i) = 2*h(i-1) + gear[byte i]   (mod 2^64)
//
// has only zeros under a mask. As bits shift out at the top, h(i) depends on the 64 bytes up to i and on nothing
// before: where a stream is cut follows from its content near the cut, so an insertion moves the cuts behind it and
// changes only the chunks it touches.
//
// Three rules keep lengths together. No cut is looked for in the first Min bytes. Up to the centre, 13/16 of the
// average, the mask has two bits more than the average calls for, from there two bits less; the average then comes
// out as asked on random data. A chunk ends at Max in any case.
//
// # What must never change
//
// Two backups share data only if they cut alike, so the cut points are as good as on disk: the derivation of the gear
// table (keyed BLAKE3 in XOF mode over "snapfs chunker gear table 1", 256 little-endian words), the hash, the masks (a mask
// of n bits has bits 63-n to 62; n is log2 of the average, two more before the centre, two less behind it), the centre and
// the meaning of Params are append only, and golden cut points in the tests hold them. The table is keyed because the lengths
// of chunks would otherwise tell which known files a store holds.
//
// # Speed
//
// The loop is bound by the instructions for each byte, and by the latency of the hash if there is only one. So two
// lanes run at a time, one a few KiB ahead of the other: the window of 64 bytes lets a lane begin anywhere. Each step
// takes two bytes a lane. The loop is proven equal to the plain definition by a fuzz test.
package chunker
