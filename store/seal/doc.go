// Package seal holds the keys of a store: slots that owners unlock, the bundle of keys they wrap, and the subkeys made from it.
package seal
