package seal

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden keys anew: only before a format is released")

const goldenDir = "testdata/v1"

// goldenSecrets open the slots of testdata/v1, which every version of snapfs must be able to read.
func goldenSecrets() map[string]Secret {
	return map[string]Secret{
		"password": {Password: []byte("correct horse battery staple")},
		"key file": {KeyFile: []byte("0123456789abcdef0123456789abcdef")},
		"age":      {Identity: []byte("AGE-SECRET-KEY-103CRDTSNDYGZ3ZQ46ZJ76Y68DEKYND3HH852K5W953XEXX9DK4PSUPWV9Z")},
	}
}

const goldenRecipient = "age1gutrhfgpgjunj6lczr0nkdjumkjg0luhywjpdmumnl004xxqapvqzsnf4x"

func TestGoldenKeysOpen(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	want := map[string]string{}
	for name, secret := range goldenSecrets() {
		b := opens(t, goldenDir, secret)
		blob, gear, mac := b.BlobIDKey(2), b.GearKey(), b.MAC([]byte("snapfs"))
		got := hex.EncodeToString(blob[:4]) + " " + hex.EncodeToString(gear[:4]) + " " + hex.EncodeToString(mac[:4])
		want[got] = name
		if data, err := os.ReadFile(filepath.Join(goldenDir, "subkeys")); err != nil || string(data) != got+"\n" {
			t.Errorf("%s leads to subkeys %s, want %s (%v)", name, got, data, err)
		}
	}
	if len(want) != 1 {
		t.Errorf("slots open different keys: %v", want)
	}
}

func writeGolden(t *testing.T) {
	must(t, os.RemoveAll(goldenDir))
	must(t, os.MkdirAll("testdata", 0o755))
	secrets := goldenSecrets()
	b, err := Create(goldenDir, []NewSlot{
		{Password: secrets["password"].Password, Label: "password"},
		{KeyFile: secrets["key file"].KeyFile, Label: "key file", Role: RoleAdmin},
		{Recipient: goldenRecipient, Label: "age"},
	})
	must(t, err)
	blob, gear, mac := b.BlobIDKey(2), b.GearKey(), b.MAC([]byte("snapfs"))
	line := hex.EncodeToString(blob[:4]) + " " + hex.EncodeToString(gear[:4]) + " " + hex.EncodeToString(mac[:4]) + "\n"
	must(t, os.WriteFile(filepath.Join(goldenDir, "subkeys"), []byte(line), 0o644))
	must(t, os.Remove(filepath.Join(goldenDir, lockName)))
}

func FuzzSlot(f *testing.F) {
	seedDir(f, slotPrefix)
	f.Fuzz(func(t *testing.T, data []byte) {
		s := parseSlot("0badcafe", data)
		if s.ID != "0badcafe" {
			t.Fatalf("slot passes itself off as %q", s.ID)
		}
		if s.problem != "" {
			return
		}
		again, err := s.encode()
		must(t, err)
		if second := parseSlot(s.ID, again); second.problem != "" {
			t.Fatalf("its own encoding is refused: %s", second.problem)
		}
	})
}

func FuzzBundle(f *testing.F) {
	seedDir(f, bundlePrefix)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBundle(data)
		if err != nil {
			return
		}
		b.open(make([]byte, 2*keySize))
		again, err := encodeFile(bundleMagic, bundleVersion, b)
		must(t, err)
		if _, err := parseBundle(again); err != nil {
			t.Fatalf("its own encoding is refused: %v", err)
		}
	})
}

// FuzzFields gets behind the checksum, which random changes never pass.
func FuzzFields(f *testing.F) {
	names, err := filepath.Glob(filepath.Join(goldenDir, "*-*"))
	must(f, err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(f, err)
		for _, magic := range []string{slotMagic, bundleMagic} {
			if _, body, err := decodeFile(magic, data); err == nil {
				f.Add(body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if s := parseSlot("0badcafe", sumLines(slotMagic, slotVersion, body)); s.problem == "" && s.check(s.ID) != nil {
			t.Fatal("bad fields accepted")
		}
		if b, err := parseBundle(sumLines(bundleMagic, bundleVersion, body)); err == nil {
			b.open(make([]byte, 2*keySize))
		}
		Unmarshal(body)
	})
}

func seedDir(f *testing.F, prefix string) {
	names, err := filepath.Glob(filepath.Join(goldenDir, prefix+"*"))
	must(f, err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(f, err)
		f.Add(data)
	}
}

func BenchmarkOpenKeyFile(b *testing.B) {
	key := random(keySize)
	dir, _ := newKeys(b, NewSlot{KeyFile: key})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(b.Context(), dir, give(Secret{KeyFile: key})); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenPassword(b *testing.B) {
	dir, _ := newKeys(b, NewSlot{Password: []byte("x")})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(b.Context(), dir, give(Secret{Password: []byte("x")})); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVolumeAEAD(b *testing.B) {
	_, keys := newKeys(b, NewSlot{Clear: true})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.VolumeAEAD([16]byte{1}); err != nil {
			b.Fatal(err)
		}
	}
}
