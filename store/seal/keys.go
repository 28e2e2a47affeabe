package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/zeebo/blake3"
)

// Names of the random keys in a bundle. On disk; append only.
const (
	keyContent = "content" // blob IDs and cuts: what decides that the same data is the same blob
	keyVolume  = "volume"
	keyIndex   = "index"
	keyMAC     = "mac"

	keyAdminPublic = "admin-sign-public" // Ed25519 public key of the admin part, there once an admin slot was made
	keyAdminSign   = "sign"              // in the admin part: Ed25519 seed
	keyAppendOnly  = "append-only"       // there in append-only stores: the public key that counts
)

// keyNames are the keys every bundle of this version has.
var keyNames = [...]string{keyContent, keyVolume, keyIndex, keyMAC}

// HKDF info of the subkeys. On disk; append only.
const (
	infoBlobID = "snapfs 1 blob id " // followed by the byte of the kind
	infoGear   = "snapfs 1 gear"
	infoPage   = "snapfs 1 page cuts"
	infoVolume = "snapfs 1 volume" // salt: the volume's ID
	infoValues = "snapfs 1 index values"
	infoNames  = "snapfs 1 index names"
	infoMAC    = "snapfs 1 mac"
)

// BlobIDKey is the key of the BLAKE3 hash that names blobs of a kind. Each call derives it anew: keep it.
func (b *Bundle) BlobIDKey(kind uint8) [32]byte {
	return b.subkey(keyContent, nil, infoBlobID+string([]byte{kind}))
}

// GearKey seeds the chunker's gear table.
func (b *Bundle) GearKey() [32]byte { return b.subkey(keyContent, nil, infoGear) }

// PageKey is the key of the hash that cuts pages.
func (b *Bundle) PageKey() [32]byte { return b.subkey(keyContent, nil, infoPage) }

// NameKey is the key of the hashes that stand for names in the index.
func (b *Bundle) NameKey() [32]byte { return b.subkey(keyIndex, nil, infoNames) }

// VolumeAEAD is the AES-256-GCM of one volume, made from the bundle and the volume's random id.
func (b *Bundle) VolumeAEAD(volume [16]byte) (cipher.AEAD, error) {
	key := b.subkey(keyVolume, volume[:], infoVolume)
	return newAEAD(key[:])
}

// IndexAEAD is the AES-256-GCM that seals the values of the index.
func (b *Bundle) IndexAEAD() (cipher.AEAD, error) {
	key := b.subkey(keyIndex, nil, infoValues)
	return newAEAD(key[:])
}

// MAC authenticates small files such as snapfs.json: keyed BLAKE3-256.
func (b *Bundle) MAC(data []byte) [32]byte {
	key := b.subkey(keyMAC, nil, infoMAC)
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("seal: BLAKE3 refuses a key of 32 bytes")
	}
	h.Write(data)
	return [32]byte(h.Sum(nil))
}

func (b *Bundle) subkey(name string, salt []byte, info string) [32]byte {
	key := b.keys[name]
	out, err := hkdf.Key(sha256.New, key[:], salt, info, keySize)
	if err != nil {
		panic("seal: HKDF refuses 32 bytes")
	}
	return [32]byte(out)
}
