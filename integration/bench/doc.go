// Command bench measures snapfs beside restic and borg in one run on the same data, and prints a table with the
// ratio of snapfs to the best peer of each line. A column for a plain copy (cp -a) says what the file system itself does with the same data;
// it is no peer. Peers that are not installed are left out and said to be.
//
// Every tool runs with its defaults and encryption on. Before each step whose name says "cold" the page cache is dropped
// (root only). With -runs above 1 the median of each line is printed.
package main
