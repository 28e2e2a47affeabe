package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/ssh"
)

const (
	keySize   = 32
	nonceSize = 12
	saltSize  = 32
)

// infoKeyFile separates the key made from a key file. On disk; append only.
const infoKeyFile = "snapfs 1 slot key-file"

// argon2id holds the cost of a password slot. On disk; append only.
type argon2id struct {
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory_kib"`
	Threads uint8  `json:"threads"`
}

// secondRecommended is the second recommended option of RFC 9106, section 4: t=3, 64 MiB, p=4.
func secondRecommended() *argon2id { return &argon2id{Time: 3, Memory: 64 << 10, Threads: 4} }

// check bounds what a slot file can make this process spend: 1 GiB, and the work of 16 passes over it.
func (a *argon2id) check() error {
	switch {
	case a == nil:
		return errors.New("no Argon2id parameters")
	case a.Time < 1 || a.Threads < 1 || a.Threads > 64 || a.Memory < 8*uint32(a.Threads) ||
		a.Memory > 1<<20 || uint64(a.Time)*uint64(a.Memory) > 16<<20:
		return fmt.Errorf("Argon2id parameters t=%d m=%d p=%d are out of bounds", a.Time, a.Memory, a.Threads)
	}
	return nil
}

// newSlotFile makes a slot that wraps payload, as n says.
func newSlotFile(s slotFile, n NewSlot, payload []byte) (*slotFile, error) {
	own, err := s.protect(n)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(own)
	if err != nil {
		return nil, err
	}
	s.Nonce = random(nonceSize)
	s.Wrapped = aead.Seal(nil, s.Nonce, payload, s.aad())
	return &s, nil
}

// protect makes the slot's own key from n's secret and fills in the fields that lead back to it.
func (s *slotFile) protect(n NewSlot) ([]byte, error) {
	kind, err := n.kind()
	if err != nil {
		return nil, err
	}
	s.Kind = kind
	switch kind {
	case SlotPassword:
		s.Salt, s.Argon2id = random(saltSize), secondRecommended()
		return s.fromPassword(n.Password), nil
	case SlotKeyFile:
		s.Salt = random(saltSize)
		return s.fromKeyFile(n.KeyFile)
	case SlotClear:
		s.Clear = random(keySize)
		return s.Clear, nil
	}
	own := random(keySize)
	s.Recipient = strings.TrimSpace(n.Recipient)
	s.Age, err = toRecipient(s.Recipient, own)
	return own, err
}

// kind checks that n has exactly one secret, and that it is fit for use.
func (n NewSlot) kind() (SlotKind, error) {
	var kinds []SlotKind
	add := func(set bool, k SlotKind) {
		if set {
			kinds = append(kinds, k)
		}
	}
	add(n.Password != nil, SlotPassword)
	add(n.KeyFile != nil, SlotKeyFile)
	add(n.Recipient != "", SlotAge)
	add(n.Clear, SlotClear)
	switch {
	case len(kinds) != 1:
		return "", fmt.Errorf("%w: it needs exactly one secret, has %d", ErrBadSlot, len(kinds))
	case n.Role != "" && n.Role != RoleAdmin:
		return "", fmt.Errorf("%w: unknown role %q", ErrBadSlot, n.Role)
	case kinds[0] == SlotPassword && len(n.Password) == 0:
		return "", fmt.Errorf("%w: the password is empty", ErrBadSlot)
	case kinds[0] == SlotKeyFile && len(n.KeyFile) != keySize:
		return "", fmt.Errorf("%w: a key file has exactly %d bytes, not %d", ErrBadSlot, keySize, len(n.KeyFile))
	}
	return kinds[0], nil
}

// open returns what the slot wraps: ErrWrongSecret if own is not the slot's key.
func (s *slotFile) open(own []byte) ([]byte, error) {
	aead, err := newAEAD(own)
	if err != nil {
		return nil, err
	}
	payload, err := aead.Open(nil, s.Nonce, s.Wrapped, s.aad())
	if err != nil {
		return nil, ErrWrongSecret
	}
	return payload, nil
}

// aad binds what a slot wraps to what the slot says it is, so that slots cannot be passed off as others.
func (s *slotFile) aad() []byte {
	out := []byte("snapfs 1 slot\x00")
	for _, field := range []string{string(s.Set), s.ID, string(s.Kind), s.Role} {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(field)))
		out = append(out, field...)
	}
	return out
}

func (s *slotFile) fromPassword(password []byte) []byte {
	a := s.Argon2id
	return argon2.IDKey(password, s.Salt, a.Time, a.Memory, a.Threads, keySize)
}

func (s *slotFile) fromKeyFile(key []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, key, s.Salt, infoKeyFile, keySize)
}

// fromIdentities decrypts the slot's own key: ErrWrongSecret if none of ids is its recipient.
func (s *slotFile) fromIdentities(ids []age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(s.Age), ids...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, ErrWrongSecret
	case err != nil:
		return nil, fmt.Errorf("slot %s: %w: %v", s.ID, ErrIdentity, err)
	}
	own, err := io.ReadAll(io.LimitReader(r, keySize+1))
	if err != nil || len(own) != keySize {
		return nil, ErrWrongSecret
	}
	return own, nil
}

// toRecipient encrypts own to an age or SSH recipient.
func toRecipient(recipient string, own []byte) ([]byte, error) {
	r, err := parseRecipient(recipient)
	if err != nil {
		return nil, fmt.Errorf("%w: recipient %q: %v", ErrBadSlot, recipient, err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return nil, fmt.Errorf("%w: recipient %q: %v", ErrBadSlot, recipient, err)
	}
	if _, err := w.Write(own); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func parseRecipient(s string) (age.Recipient, error) {
	if strings.HasPrefix(s, "ssh-") {
		return agessh.ParseRecipient(s)
	}
	rs, err := age.ParseRecipients(strings.NewReader(s))
	switch {
	case err != nil:
		return nil, errors.New("neither an age nor an SSH recipient")
	case len(rs) != 1:
		return nil, errors.New("more than one recipient")
	}
	return rs[0], nil
}

// identities reads the contents of an age identity file or of an SSH private key. Errors tell nothing of them.
func (s Secret) identities() ([]age.Identity, error) {
	if !bytes.Contains(s.Identity, []byte("-----BEGIN")) {
		ids, err := age.ParseIdentities(bytes.NewReader(s.Identity))
		if err != nil {
			return nil, fmt.Errorf("%w: not an age identity file or SSH private key", ErrIdentity)
		}
		return ids, nil
	}
	id, err := agessh.ParseIdentity(s.Identity)
	var missing *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &missing):
		return s.encryptedSSH(missing.PublicKey)
	case err != nil:
		return nil, fmt.Errorf("%w: not an SSH private key that age can use", ErrIdentity)
	}
	return []age.Identity{id}, nil
}

func (s Secret) encryptedSSH(public ssh.PublicKey) ([]age.Identity, error) {
	if s.Passphrase == nil || public == nil {
		return nil, fmt.Errorf("%w: the SSH private key is under a passphrase", ErrIdentity)
	}
	id, err := agessh.NewEncryptedSSHIdentity(public, s.Identity, s.Passphrase)
	if err != nil {
		return nil, fmt.Errorf("%w: not an SSH private key that age can use", ErrIdentity)
	}
	return []age.Identity{id}, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// random never fails: crypto/rand ends the process when the system has no randomness.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return slices.Clip(b)
}
