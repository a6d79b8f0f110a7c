package jose

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds on JSON. Objects are bounded because their names are compared with each other.
const (
	maxMembers = 32
	maxLevels  = 16
	maxNumber  = 64
)

// member is a member of an object: its name, decoded, and its value as it is written.
type member struct {
	name  []byte
	value []byte
}

// scanner reads one JSON text (RFC 8259), more strictly than the RFC: no name may come twice in an object, also not
// in another case, strings are UTF-8 without NUL and without lone surrogates, numbers fit into a float64.
type scanner struct {
	data []byte
	pos  int
}

// readObject reads a text that is one object and appends its members to into.
func readObject(data []byte, into []member) ([]member, error) {
	s := scanner{data: data}
	s.space()
	if s.next() != '{' {
		return nil, errors.New("is not a JSON object")
	}
	members, err := s.object(maxLevels, into)
	if err != nil {
		return nil, err
	}
	s.space()
	if s.pos != len(s.data) {
		return nil, s.wrong("bytes after the end")
	}
	return members, nil
}

// object reads an object from its brace on and appends its members to members.
func (s *scanner) object(levels int, members []member) ([]member, error) {
	if levels == 0 {
		return nil, fmt.Errorf("is nested more than %d levels deep", maxLevels)
	}
	s.pos++
	s.space()
	if s.next() == '}' {
		s.pos++
		return members, nil
	}
	for {
		found, err := s.member(levels - 1)
		if err != nil {
			return nil, err
		}
		if len(members) == maxMembers {
			return nil, fmt.Errorf("has an object with more than %d members", maxMembers)
		}
		for i := range members {
			if bytes.EqualFold(members[i].name, found.name) {
				return nil, fmt.Errorf("has member %.40q twice", found.name)
			}
		}
		members = append(members, found)
		more, err := s.more('}')
		if err != nil || !more {
			return members, err
		}
	}
}

func (s *scanner) member(levels int) (member, error) {
	s.space()
	if s.next() != '"' {
		return member{}, s.wrong("no member name")
	}
	name, err := s.text()
	if err != nil {
		return member{}, err
	}
	s.space()
	if s.next() != ':' {
		return member{}, s.wrong("no colon after a member name")
	}
	s.pos++
	s.space()
	start := s.pos
	if err := s.value(levels); err != nil {
		return member{}, err
	}
	return member{name: name, value: s.data[start:s.pos]}, nil
}

// more reads what follows an element: a comma (true) or the end of the object or array (false).
func (s *scanner) more(end byte) (bool, error) {
	s.space()
	switch s.next() {
	case ',':
		s.pos++
		return true, nil
	case end:
		s.pos++
		return false, nil
	default:
		return false, s.wrong("neither a comma nor the end of an object or array")
	}
}

func (s *scanner) array(levels int) error {
	if levels == 0 {
		return fmt.Errorf("is nested more than %d levels deep", maxLevels)
	}
	s.pos++
	s.space()
	if s.next() == ']' {
		s.pos++
		return nil
	}
	for {
		s.space()
		if err := s.value(levels - 1); err != nil {
			return err
		}
		more, err := s.more(']')
		if err != nil || !more {
			return err
		}
	}
}

func (s *scanner) value(levels int) error {
	switch c := s.next(); {
	case c == '{':
		var room [8]member
		_, err := s.object(levels, room[:0])
		return err
	case c == '[':
		return s.array(levels)
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	default:
		for _, literal := range [...]string{"true", "false", "null"} {
			if len(s.data)-s.pos >= len(literal) && string(s.data[s.pos:s.pos+len(literal)]) == literal {
				s.pos += len(literal)
				return nil
			}
		}
		return s.wrong("no value")
	}
}

// number reads a number. What strconv takes of these characters is the grammar of RFC 8259 section 6 and what
// bareNumber looks for.
func (s *scanner) number() error {
	start := s.pos
	for s.pos < len(s.data) && bytes.IndexByte([]byte("+-.0123456789Ee"), s.data[s.pos]) >= 0 {
		s.pos++
	}
	literal := s.data[start:s.pos]
	if len(literal) > maxNumber {
		return s.wrong("a number that is too long")
	}
	if _, err := strconv.ParseFloat(string(literal), 64); err != nil || bareNumber(bytes.TrimPrefix(literal, []byte("-"))) {
		return s.wrong("a number that is no JSON or out of range")
	}
	return nil
}

// bareNumber reports whether a number has a leading zero or lacks digits on a side of its point.
func bareNumber(number []byte) bool {
	digit := func(i int) bool { return i < len(number) && '0' <= number[i] && number[i] <= '9' }
	point := bytes.IndexByte(number, '.')
	return !digit(0) || number[0] == '0' && digit(1) || point >= 0 && !digit(point+1)
}

// text reads a string and returns it decoded. Without escapes that is a part of the data.
func (s *scanner) text() ([]byte, error) {
	s.pos++
	start := s.pos
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			raw := s.data[start:s.pos]
			s.pos++
			return raw, s.checkUTF8(raw)
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return nil, s.wrong("a control character in a string")
		}
		s.pos++
	}
	return nil, s.wrong("a string without end")
}

// escaped reads the rest of a string that has an escape at the current position.
func (s *scanner) escaped(start int) ([]byte, error) {
	decoded := bytes.Clone(s.data[start:s.pos])
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			s.pos++
			return decoded, s.checkUTF8(decoded)
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			decoded = utf8.AppendRune(decoded, r)
		case c < ' ':
			return nil, s.wrong("a control character in a string")
		default:
			decoded = append(decoded, c)
			s.pos++
		}
	}
	return nil, s.wrong("a string without end")
}

// escape reads one escape sequence, or the two of a surrogate pair.
func (s *scanner) escape() (rune, error) {
	s.pos++
	c := s.next()
	s.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return s.unicodeEscape()
	default:
		return 0, s.wrong("an unknown escape in a string")
	}
}

func (s *scanner) unicodeEscape() (rune, error) {
	r, ok := s.hex()
	if ok && utf16.IsSurrogate(r) {
		var low rune
		if ok = s.pos+1 < len(s.data) && s.data[s.pos] == '\\' && s.data[s.pos+1] == 'u'; ok {
			s.pos += 2
			low, ok = s.hex()
			r = utf16.DecodeRune(r, low)
			ok = ok && r != unicode.ReplacementChar
		}
	}
	// A NUL is valid JSON, but no value of ACME has one and not every database can store one.
	if !ok || r == 0 {
		return 0, s.wrong("a bad \\u escape, a lone surrogate or a NUL in a string")
	}
	return r, nil
}

func (s *scanner) hex() (rune, bool) {
	if len(s.data)-s.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s.data[s.pos : s.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	s.pos += 4
	return r, true
}

func (s *scanner) checkUTF8(text []byte) error {
	if !utf8.Valid(text) {
		return s.wrong("invalid UTF-8 in a string")
	}
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// next returns the byte at the current position, 0 at the end: no JSON token is or begins with a NUL.
func (s *scanner) next() byte {
	if s.pos >= len(s.data) {
		return 0
	}
	return s.data[s.pos]
}

func (s *scanner) wrong(what string) error {
	return fmt.Errorf("is not valid JSON: %s before byte %d", what, s.pos+1)
}
