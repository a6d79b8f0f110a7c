package jose

import (
	"encoding/json"
	"errors"

	"github.com/certloom/certloom/internal/fault"
)

// Decode reads the payload of a request, which must be a JSON object, into the struct that into points to. Members that
// the struct does not have are ignored, as RFC 8555 demands. Refusals are Malformed *fault.Errors that name the member:
// wrong types, and all that the scanner of this package refuses (two members of one name, deep nesting, bad UTF-8).
func Decode(payload []byte, into any) error {
	var room [16]member
	if _, err := readObject(payload, room[:0]); err != nil {
		return fault.New(fault.Malformed, "payload %v", err)
	}
	err := json.Unmarshal(payload, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fault.New(fault.Malformed, "payload's member %q has a wrong type: %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return fault.Wrap(err, fault.Malformed, "payload cannot be read")
	}
	return nil
}
