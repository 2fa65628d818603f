-- How long PINs are is asked every second: callers' keys are a whole PIN as soon as none can be longer.
CREATE INDEX pins_by_length ON pins ((LENGTH(digits)));
